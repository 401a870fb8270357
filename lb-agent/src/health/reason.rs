//! Why a server fails, in one word.

use std::fmt;
use std::io;

/// Why a server fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Nothing listens there, or a firewall rejects.
    ConnectionRefused,
    /// No answer, or not all of it, in time. A network policy that drops looks the same.
    Timeout,
    /// It cut the connection.
    ConnectionReset,
    /// It ended the connection before its answer was complete.
    ConnectionClosed,
    /// No way to it.
    Unreachable,
    /// It may not be asked: the kernel's firewall of the agent's own pod.
    Forbidden,
    /// Another status of HTTP than wanted.
    Status(u16),
    /// Its certificate is signed by nobody that is trusted.
    TlsUntrusted,
    /// Its certificate is for another name.
    TlsWrongName,
    /// Its certificate is over, or not valid yet.
    TlsExpired,
    /// TLS failed in another way.
    TlsFailed,
    /// The object's own CA can't be read, so nothing can be verified.
    CaBundleInvalid,
    /// Its answer can't be understood.
    BadReply,
    /// Its answer is longer than any that is wanted.
    ReplyTooLong,
    /// Its answer is another than wanted.
    UnexpectedReply,
    /// gRPC: it says that it does not serve.
    NotServing,
    /// gRPC: another status than OK, for example 12 where there is no health service, or 5 where the service is unknown.
    GrpcStatus(u8),
    /// DNS: a code of an error, for example 3 where the name does not exist.
    DnsCode(u8),
    /// DNS: no record of that name and type.
    NoRecord,
}

impl Reason {
    /// The reason of a failed connection.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectionRefused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::ConnectionReset,
            io::ErrorKind::ConnectionAborted | io::ErrorKind::UnexpectedEof | io::ErrorKind::NotConnected => {
                Self::ConnectionClosed
            }
            io::ErrorKind::TimedOut => Self::Timeout,
            io::ErrorKind::PermissionDenied => Self::Forbidden,
            _ => Self::Unreachable,
        }
    }

    /// The word without its number, of which there are few.
    #[must_use]
    pub fn group(self) -> &'static str {
        match self {
            Self::ConnectionRefused => "ConnectionRefused",
            Self::Timeout => "Timeout",
            Self::ConnectionReset => "ConnectionReset",
            Self::ConnectionClosed => "ConnectionClosed",
            Self::Unreachable => "Unreachable",
            Self::Forbidden => "Forbidden",
            Self::Status(_) => "Status",
            Self::TlsUntrusted => "TLSUntrusted",
            Self::TlsWrongName => "TLSWrongName",
            Self::TlsExpired => "TLSExpired",
            Self::TlsFailed => "TLSFailed",
            Self::CaBundleInvalid => "CABundleInvalid",
            Self::BadReply => "BadReply",
            Self::ReplyTooLong => "ReplyTooLong",
            Self::UnexpectedReply => "UnexpectedReply",
            Self::NotServing => "NotServing",
            Self::GrpcStatus(_) => "GRPCStatus",
            Self::DnsCode(_) => "DNSCode",
            Self::NoRecord => "NoRecord",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.group())?;
        match self {
            Self::Status(number) => write!(f, "{number}"),
            Self::GrpcStatus(number) | Self::DnsCode(number) => write!(f, "{number}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_words_for_programs() {
        assert_eq!(Reason::Status(503).to_string(), "Status503");
        assert_eq!(Reason::TlsUntrusted.to_string(), "TLSUntrusted");
        assert_eq!(
            Reason::of(&io::ErrorKind::ConnectionRefused.into()),
            Reason::ConnectionRefused
        );
    }
}
