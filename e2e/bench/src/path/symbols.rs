//! The functions of a machine's kernel: reads `/proc/kallsyms`.

use super::part::Part;

/// Where the addresses of the kernel begin that emulates the machine.
const BELOW: u64 = 1 << 63;
/// No function is longer: what is further from one is a program.
const LONGEST: u64 = 1 << 16;

/// Where functions begin, in order.
#[derive(Debug, Default)]
pub(super) struct Symbols(Vec<Function>);

#[derive(Debug)]
struct Function {
    begin: u64,
    name: String,
    part: Part,
}

impl Symbols {
    /// Reads the list; other lines are left out.
    pub(super) fn read(text: &str) -> Self {
        let mut all: Vec<Function> = text.lines().filter_map(function).collect();
        all.sort_by_key(|function| function.begin);
        Self(all)
    }

    /// What runs at an address, and in which function of the machine's kernel.
    pub(super) fn at(&self, address: u64) -> (Part, Option<&str>) {
        if address >= BELOW {
            return (Part::Below, None);
        }
        let next = self.0.partition_point(|function| function.begin <= address);
        let found = next.checked_sub(1).and_then(|place| self.0.get(place));
        match found {
            Some(function) if address - function.begin < LONGEST => (function.part, Some(&function.name)),
            _ => (Part::Programs, None),
        }
    }
}

/// `ADDRESS TYPE NAME [MODULE]`, of which only text is of interest.
fn function(line: &str) -> Option<Function> {
    let mut words = line.split_whitespace();
    let begin = u64::from_str_radix(words.next()?, 16).ok()?;
    let kind = words.next()?;
    let name = words.next()?.to_owned();
    let module = words.next().map(|word| word.trim_matches(['[', ']']));
    let part = Part::of_module(module);
    matches!(kind, "t" | "T" | "w" | "W").then_some(Function { begin, name, part })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "0000000060001000 T ip_rcv\n0000000060001400 D data\n\
                        0000000080002000 t ip_vs_in\t[ip_vs]\nnonsense\n0000000060001100 t ip_forward\n";

    #[test]
    fn an_address_is_in_the_function_before_it() {
        let symbols = Symbols::read(TEXT);
        assert_eq!(symbols.at(0x6000_1000), (Part::Kernel, Some("ip_rcv")));
        assert_eq!(symbols.at(0x6000_1450), (Part::Kernel, Some("ip_forward")));
        assert_eq!(symbols.at(0x8000_2010), (Part::Ipvs, Some("ip_vs_in")));
    }

    #[test]
    fn what_is_in_no_function_is_told_apart() {
        let symbols = Symbols::read(TEXT);
        assert_eq!(symbols.at(0xffff_ffff_8100_0000).0, Part::Below);
        for elsewhere in [0, 0x6fff_ffff, 0x7fff_0000_0000] {
            assert_eq!(symbols.at(elsewhere).0, Part::Programs, "{elsewhere:#x}");
        }
        assert_eq!(Symbols::default().at(0x6000_1000).0, Part::Programs);
    }
}
