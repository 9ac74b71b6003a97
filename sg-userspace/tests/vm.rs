//! What depends on the kernel and on drivers, in small machines with other
//! kernels than this one's: `cargo xtask vm-test` starts them and runs this
//! there. Started anywhere else, every test here says so and does nothing.

mod support;
#[path = "namespaces/world.rs"]
#[allow(dead_code, reason = "shared with the namespace tests")]
mod world;

mod vm {
    pub mod machine;

    pub mod cards;
    pub mod devices;
    pub mod hooks;
    pub mod load;
    pub mod without_btf;
}
