//! The kernel's IPVS over generic netlink: services, destinations, batches and typed errors.
