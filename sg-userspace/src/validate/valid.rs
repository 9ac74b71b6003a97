//! Documents that are good together. A change of a few objects leaves most of the
//! work on them as it is: what was read stays read, and only what is different is
//! read anew, as long as it means what it meant to everything else.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Quotas, groups,
    interfaces::{self, Taken},
    lists,
    names::Names,
};
use crate::{
    document::{
        Document, Problems,
        problem::{Limit, Over, Problem},
    },
    failsafe::Failsafe,
    model::{GroupType, Model},
};

/// See the module.
#[derive(Clone, Debug)]
pub struct Valid {
    documents: Vec<Document>,
    /// All of them as one.
    whole: Document,
    quotas: Quotas,
    names: Names,
    model: Arc<Model>,
    /// Quotas that are passed all the same: they became stricter.
    over: Vec<Problem>,
}

/// Where two lists begin to differ, and how many of each are from there to where they
/// are the same again.
fn middle<T>(old: &[Arc<T>], new: &[Arc<T>]) -> (usize, usize, usize) {
    let from = old.iter().zip(new).take_while(|(a, b)| Arc::ptr_eq(a, b)).count();
    let (old, new) = (&old[from..], &new[from..]);
    let to = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| Arc::ptr_eq(a, b)).count();
    (from, old.len() - to, new.len() - to)
}

impl Valid {
    /// Validates documents together. They mean what they mean beside this failsafe, which is
    /// none of theirs.
    ///
    /// # Errors
    /// Every problem of the whole.
    pub fn of(documents: Vec<Document>, quotas: &Quotas, failsafe: Option<&Arc<Failsafe>>) -> Result<Self, Problems> {
        Self::judge(documents, quotas, failsafe, |_| false)
    }

    /// Documents that were good when they came, also where quotas have become stricter since;
    /// [`Valid::over`] has what passes one. Everything else must be as good as ever.
    ///
    /// # Errors
    /// Every problem that is of no quota.
    pub fn stored(
        documents: Vec<Document>,
        quotas: &Quotas,
        failsafe: Option<&Arc<Failsafe>>,
    ) -> Result<Self, Problems> {
        Self::judge(documents, quotas, failsafe, |_| true)
    }

    /// What comes after these documents. Where they pass a quota it may, too, but not
    /// further: so it can be mended step by step, and everything else goes on meanwhile.
    ///
    /// # Errors
    /// Every other problem.
    pub fn succeeded_by(&self, documents: Vec<Document>, quotas: &Quotas) -> Result<Self, Problems> {
        let passed = self.over.iter().filter_map(|p| p.over.as_ref());
        let passed: BTreeMap<(Limit, &str), usize> = passed.map(|o| ((o.limit, o.id.as_str()), o.count)).collect();
        let no_further = |o: &Over| passed.get(&(o.limit, o.id.as_str())).is_some_and(|&before| o.count <= before);
        Self::judge(documents, quotas, self.model.failsafe.as_ref(), no_further)
    }

    fn judge(
        documents: Vec<Document>,
        quotas: &Quotas,
        failsafe: Option<&Arc<Failsafe>>,
        let_pass: impl Fn(&Over) -> bool,
    ) -> Result<Self, Problems> {
        let whole = Document::merge(&documents);
        let mut problems = Problems::default();
        let names = Names::of_all(&documents, &mut problems);
        let mut model = super::model(&whole, &names, quotas, &mut problems);
        let (over, wrong) = problems.0.into_iter().partition(|p: &Problem| p.over.as_ref().is_some_and(&let_pass));
        model.failsafe = failsafe.cloned();
        let (model, quotas) = (Arc::new(model), *quotas);
        Problems(wrong).or(Self { documents, whole, quotas, names, model, over })
    }

    /// Validates documents that differ from these; gives what [`Valid::succeeded_by`] gives,
    /// sooner where they differ little.
    ///
    /// # Errors
    /// Every problem of the whole.
    pub fn follow(&self, documents: Vec<Document>, quotas: &Quotas) -> Result<Self, Problems> {
        let whole = Document::merge(&documents);
        let names = self.names.follow(&self.documents, &documents);
        match self.reread(&whole, &names, quotas) {
            Some(model) => {
                Ok(Self { documents, whole, quotas: *quotas, names, model: Arc::new(model), over: Vec::new() })
            }
            // Also when something is wrong: then all that is wrong is said.
            None => self.succeeded_by(documents, quotas),
        }
    }

    /// The documents.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// What everything in them is called.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// What they mean.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Quotas that they pass, as they became stricter.
    pub fn over(&self) -> &[Problem] {
        &self.over
    }

    /// The model of a whole that has these names; `None` if it is not good, or so
    /// different that it has to be read from the beginning.
    fn reread(&self, whole: &Document, names: &Names, quotas: &Quotas) -> Option<Model> {
        let alike = Arc::ptr_eq(&self.names.groups, &names.groups)
            && Arc::ptr_eq(&self.names.prefix_lists, &names.prefix_lists)
            && Arc::ptr_eq(&self.names.port_lists, &names.port_lists);
        // What passes a quota is counted anew, all of it.
        if !alike || *quotas != self.quotas || !self.over.is_empty() {
            return None;
        }
        let mut model = (*self.model).clone();
        let mut problems = Problems::default();
        let lists = self.whole.prefix_lists.shared().iter().zip(whole.prefix_lists.shared()).enumerate();
        for (i, _) in lists.filter(|(_, (old, new))| !Arc::ptr_eq(old, new)) {
            let list = lists::prefix_list(whole, i, names, quotas, &mut problems);
            // Rules that name it were held against its family.
            if list.v4 != model.prefix_lists[i].v4 {
                return None;
            }
            model.prefix_lists[i] = Arc::new(list);
        }
        let lists = self.whole.port_range_lists.shared().iter().zip(whole.port_range_lists.shared()).enumerate();
        for (i, _) in lists.filter(|(_, (old, new))| !Arc::ptr_eq(old, new)) {
            model.port_lists[i] = Arc::new(lists::port_list(whole, i, names, quotas, &mut problems));
        }
        let kinds: Vec<GroupType> = model.groups.iter().map(|g| g.kind).collect();
        let groups = self.whole.security_groups.shared().iter().zip(whole.security_groups.shared()).enumerate();
        for (i, _) in groups.filter(|(_, (old, new))| !Arc::ptr_eq(old, new)) {
            // Members and other groups' rules were held against it; also against its VPC,
            // but then it is named otherwise.
            if groups::kind(whole, i, &mut problems) != kinds[i] {
                return None;
            }
            model.groups[i] = Arc::new(groups::group(whole, i, &kinds, names, quotas, &mut problems));
        }
        self.reread_interfaces(whole, names, &mut model, &mut problems);
        interfaces::instances(whole, names, &mut problems);
        if problems.0.is_empty() {
            interfaces::quotas(whole, &model, quotas, &mut problems);
        }
        problems.0.is_empty().then_some(model)
    }

    fn reread_interfaces(&self, whole: &Document, names: &Names, model: &mut Model, problems: &mut Problems) {
        let (old, new) = (self.whole.network_interfaces.shared(), whole.network_interfaces.shared());
        let (from, gone, come) = middle(old, new);
        let mut taken = Taken::default();
        let own = |i: &crate::document::NetworkInterface| (i.device.clone(), i.private_ip_addresses.clone());
        let changed = old[from..from + gone].iter().map(|i| own(i)).ne(new[from..from + come].iter().map(|i| own(i)));
        if changed {
            let others = (0..from).chain(from + gone..old.len());
            others.for_each(|i| taken.take(&old[i], &model.interfaces[i]));
        }
        let read = (from..from + come)
            .map(|i| Arc::new(interfaces::interface(whole, i, &mut taken, names, &self.quotas, problems)))
            .collect::<Vec<_>>();
        model.interfaces.splice(from..from + gone, read);
    }
}
