//! Reads what `callgrind_annotate` prints.

/// The part that a function has of all instructions.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Share {
    /// Its name, without file, object and hash.
    pub(super) function: String,
    pub(super) percent: f64,
}

impl Share {
    /// Whether the agent's own code says what it does, and not a library.
    pub(super) fn is_ours(&self) -> bool {
        let name = self.function.trim_start_matches('<');
        name.starts_with("lb_agent::") || name.starts_with("plb_ipvs::") || name.starts_with("ipvs::")
    }
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Annotated {
    /// Instructions.
    pub(super) total: u64,
    /// The greatest first. A function that lies in several files counts once.
    pub(super) shares: Vec<Share>,
}

pub(super) fn read(text: &str) -> Annotated {
    let mut found = Annotated::default();
    for (count, rest) in text.lines().filter_map(line) {
        if rest == "PROGRAM TOTALS" {
            found.total = count;
            continue;
        }
        let function = function(rest);
        #[allow(
            clippy::cast_precision_loss,
            reason = "counts of instructions are far below 2^52"
        )]
        let percent = count as f64 * 100.0 / found.total.max(1) as f64;
        match found.shares.iter_mut().find(|share| share.function == function) {
            Some(share) => share.percent += percent,
            None => found.shares.push(Share { function, percent }),
        }
    }
    found
        .shares
        .sort_by(|one, other| other.percent.total_cmp(&one.percent));
    found
}

/// The count of a line, and what it is of.
fn line(line: &str) -> Option<(u64, &str)> {
    let (count, rest) = line.trim().split_once(" (")?;
    let (percent, rest) = rest.split_once("%)")?;
    let _: f64 = percent.trim().parse().ok()?;
    Some((count.replace(',', "").parse().ok()?, rest.trim()))
}

/// The name in `FILE:NAME [OBJECT]`.
fn function(text: &str) -> String {
    let name = text.split_once(':').map_or(text, |(_, name)| name);
    let name = match name.rfind(" [/") {
        Some(end) if name.ends_with(']') => &name[..end],
        _ => name,
    };
    match name.rsplit_once("::h") {
        Some((name, hash)) if hash.len() >= 16 && hash[..16].bytes().all(|it| it.is_ascii_hexdigit()) => name,
        _ => name,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Events shown:     Ir
--------------------------------------------------------------------------------
1,000 (100.0%)  PROGRAM TOTALS

Ir                file:function
--------------------------------------------------------------------------------
  500 (50.00%)  ???:lb_agent::plan::plan::h0123456789abcdef [/x/bench]
  200 (20.00%)  ./string/memmove.S:memcpy [/usr/lib/libc.so.6]
   50 ( 5.00%)  ./string/other.S:memcpy [/usr/lib/libc.so.6]
";

    #[test]
    fn names_are_bare_and_counted_once() {
        let found = read(TEXT);
        assert_eq!(found.total, 1000);
        let names: Vec<(&str, f64)> = found
            .shares
            .iter()
            .map(|it| (it.function.as_str(), it.percent))
            .collect();
        assert_eq!(names, [("lb_agent::plan::plan", 50.0), ("memcpy", 25.0)]);
        assert!(found.shares[0].is_ours() && !found.shares[1].is_ours());
    }
}
