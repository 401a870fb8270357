//! Sets of kernel flags as types, so a flag of one kind can't be given where another is meant.

macro_rules! flags {
    ($(#[$doc:meta])* $name:ident: $bits:ty { $($(#[$flag_doc:meta])* $flag:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($bits);

        impl $name {
            $($(#[$flag_doc])* pub const $flag: Self = Self($value);)*

            /// No flag.
            #[must_use]
            pub const fn empty() -> Self {
                Self(0)
            }

            /// The flags known here among the kernel's bits.
            #[must_use]
            pub const fn from_bits(bits: $bits) -> Self {
                Self(bits & (0 $(| $value)*))
            }

            /// The kernel's bits.
            #[must_use]
            pub const fn bits(self) -> $bits {
                self.0
            }

            /// Whether all of `other`'s flags are in this set.
            #[must_use]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }
        }

        impl std::ops::BitOr for $name {
            type Output = Self;

            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }
    };
}
pub(crate) use flags;
