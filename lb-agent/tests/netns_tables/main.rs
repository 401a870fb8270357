//! Tables in a real kernel, without an agent: any of them, and very large ones.

mod kernel;
mod property;
mod scale;
