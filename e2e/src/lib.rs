//! The lab cluster, and the tests that need one.
