//! Names and labels that the operator, the agents and the tests share.

/// Name of the program on every child.
pub const NAME_LABEL: &str = "app.kubernetes.io/name";
/// Value of [`NAME_LABEL`].
pub const NAME: &str = "portable-lb-agent";
/// Who made a child.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY_LABEL`].
pub const MANAGED_BY: &str = "portable-lb-operator";
/// UID of the balancer that a child belongs to; a child without a living one is swept.
pub const UID_LABEL: &str = "portablelb.io/plb-uid";
/// Namespace of the balancer that a child belongs to.
pub const NAMESPACE_LABEL: &str = "portablelb.io/plb-namespace";
/// Name of the balancer that a child belongs to.
pub const PLB_NAME_LABEL: &str = "portablelb.io/plb-name";

/// Field manager of the operator, for children and for status. An agent's is the name of its pod.
pub const OPERATOR_MANAGER: &str = "portable-lb-operator";
/// TCP port of the agents' own HTTP server, which no balancer may listen on.
pub const ADMIN_PORT: u16 = 9913;
/// Class served by an operator that was told no other.
pub const DEFAULT_CLASS: &str = "portable-lb";
/// Greatest length of a balancer's name: it becomes a label's value.
pub const NAME_MAX: usize = 63;

/// How much of a balancer's name is readable in its children's.
const READABLE: usize = 40;

/// Name of a balancer's children in the agents' namespace: `plb-<name cut to 40>-<8 hex digits>`.
///
/// The digits tell apart equal names in different namespaces; they depend on nothing but the two names.
#[must_use]
pub fn child_name(namespace: &str, name: &str) -> String {
    let readable: String = name.chars().take(READABLE).collect();
    let hash = fnv1a(format!("{namespace}/{name}").as_bytes());
    // The high half folded into the low one: FNV's own way to fewer bits.
    let folded = (hash >> 32) ^ (hash & 0xffff_ffff);
    format!("plb-{}-{folded:08x}", readable.trim_end_matches(['-', '.']))
}

/// Name of the `ServiceAccount`, in the agents' namespace, of all agents that serve one user namespace.
#[must_use]
pub fn service_account(namespace: &str) -> String {
    format!("plb-{namespace}")
}

/// Name of the `RoleBinding`, in the balancer's namespace, that lets its agents follow it.
#[must_use]
pub fn role_binding(name: &str) -> String {
    format!("portable-lb-agent-{name}")
}

/// FNV-1a with 64 bits: stable over versions and machines, which the standard library's hasher is not.
#[must_use]
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        // Vectors of the algorithm's authors.
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_childs_name_never_changes() {
        assert_eq!(child_name("default", "web"), "plb-web-b9fd91b3");
    }

    #[test]
    fn equal_names_in_two_namespaces_have_different_children() {
        assert_ne!(child_name("a", "web"), child_name("b", "web"));
        assert_ne!(child_name("a-b", "c"), child_name("a", "b-c"));
    }

    #[test]
    fn long_names_that_differ_at_the_end_have_different_children() {
        let one = child_name("default", &format!("{}1", "x".repeat(62)));
        let two = child_name("default", &format!("{}2", "x".repeat(62)));
        assert_ne!(one, two);
        assert_eq!(one.len(), "plb-".len() + READABLE + 1 + 8);
    }

    #[test]
    fn a_cut_leaves_no_doubled_dash() {
        let name = format!("{}-{}", "x".repeat(39), "tail");
        assert!(!child_name("default", &name).contains("--"));
    }
}
