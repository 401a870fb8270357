//! The largest tables that are promised. Times are printed; what is asserted is how they grow.
