//! A store that is measured.

use std::{sync::Arc, time::Instant};

use super::Metrics;
use crate::daemon::{
    control::TrialRecord,
    history::{Head, Kept},
    stats::{Account, Accounts},
    store::{State, Store, StoreError},
};

/// Another store, and where its times go.
pub struct Timed<S> {
    store: S,
    metrics: Arc<Metrics>,
}

impl<S: Store> Timed<S> {
    /// Measures a store.
    pub fn new(store: S, metrics: Arc<Metrics>) -> Self {
        Self { store, metrics }
    }

    fn timed<T>(&mut self, f: impl FnOnce(&mut S) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let begun = Instant::now();
        let result = f(&mut self.store);
        self.metrics.committed(begun.elapsed(), result.is_ok());
        result
    }
}

impl<S: Store> Store for Timed<S> {
    fn load(&self) -> Result<State, StoreError> {
        self.store.load()
    }

    fn save(&mut self, state: &State) -> Result<(), StoreError> {
        self.timed(|store| store.save(state))
    }

    fn kept(&self) -> Result<Vec<Head>, StoreError> {
        self.store.kept()
    }

    fn read_kept(&self, generation: u64) -> Result<Option<Kept>, StoreError> {
        self.store.read_kept(generation)
    }

    fn keep(&mut self, new: Option<&Kept>, gone: &[u64]) -> Result<(), StoreError> {
        self.timed(|store| store.keep(new, gone))
    }

    fn trial(&self) -> Result<Option<TrialRecord>, StoreError> {
        self.store.trial()
    }

    fn keep_trial(&mut self, trial: Option<&TrialRecord>) -> Result<(), StoreError> {
        self.timed(|store| store.keep_trial(trial))
    }

    fn accounts(&self) -> Result<Accounts, StoreError> {
        self.store.accounts()
    }

    fn keep_accounts(&mut self, changed: &[(String, Option<Account>)]) -> Result<(), StoreError> {
        self.timed(|store| store.keep_accounts(changed))
    }
}
