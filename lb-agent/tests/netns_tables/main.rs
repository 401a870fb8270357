//! Tables in a real kernel, without an agent: any of them, and very large ones.

#[allow(dead_code, reason = "shared with other tests, which use other parts")]
#[path = "../common/mod.rs"]
mod common;
mod kernel;
mod property;
mod scale;
