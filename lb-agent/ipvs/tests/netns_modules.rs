//! A kernel without IPVS, and one that loads it by itself. Alone in its machine, since modules are the machine's.

use ipvs::{Client, Error};

/// The program that the kernel runs to load a module.
const LOADER: &str = "/proc/sys/kernel/modprobe";

#[test]
fn a_missing_family_is_told_and_a_present_one_loads_by_itself() {
    let loader = std::fs::read_to_string(LOADER).unwrap();
    std::fs::write(LOADER, "\n").unwrap();
    let error = Client::open().err().unwrap();
    assert!(matches!(error, Error::FamilyMissing), "{error:?}");
    assert!(error.to_string().contains("modprobe ip_vs"), "{error}");

    std::fs::write(LOADER, loader).unwrap();
    assert_eq!(Client::open().unwrap().info().unwrap().version, (1, 2, 1));
}
