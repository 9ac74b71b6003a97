//! The kernel program itself, by `BPF_PROG_TEST_RUN`: named packets, random
//! ones, flows over time.

mod program {
    pub mod captures;
    pub mod cases;
    pub mod counters;
    pub mod deltas;
    pub mod filter;
    pub mod floods;
    pub mod flows;
    pub mod quotas;
    pub mod random;
    pub mod replay;
    pub mod shadow;
    pub mod tcp;
    pub mod told;
}
mod support;
