//! Numbers of the kinds of message, and the class of each.

use crate::message::Message;

/// How a frame travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Between the two ends of a connection, not of the pass: set-up, ping, goodbye. The goodbye comes last.
    Link,
    /// Control connection, in the order in which it was sent.
    Ordered,
    /// Control connection, where it may overtake what waits: small, and the other end waits for it.
    Urgent,
    /// Any data connection, in any order; the control connection where there is no other.
    Bulk,
}

impl Message {
    /// Whether it takes the control connection: everything but [`Class::Bulk`].
    pub fn is_ordered(&self) -> bool {
        self.class() != Class::Bulk
    }
}

macro_rules! kinds {
    ($($name:ident = $number:literal $message:ident $class:ident),* $(,)?) => {
        $(pub(crate) const $name: u8 = $number;)*

        impl Class {
            /// Class of a kind of message; `None` where no message has that kind.
            pub(crate) const fn of(kind: u8) -> Option<Self> {
                match kind {
                    $($number => Some(Self::$class),)*
                    _ => None,
                }
            }
        }

        impl Message {
            /// Its kind's number.
            pub(crate) const fn kind(&self) -> u8 {
                match self { $(Self::$message { .. } => $number,)* }
            }

            /// How it travels.
            pub const fn class(&self) -> Class {
                match self { $(Self::$message { .. } => Class::$class,)* }
            }
        }
    };
}

kinds! {
    HELLO = 1 Hello Ordered,
    DIGESTS = 2 Digests Ordered,
    ZERO_DIGESTS = 3 ZeroDigests Ordered,
    DIGEST_CREDIT = 4 DigestCredit Ordered,
    PAGE_DIGEST_REQUEST = 5 PageDigestRequest Ordered,
    PAGE_DIGESTS = 6 PageDigests Bulk,
    DATA = 7 Data Bulk,
    ZERO = 8 Zero Bulk,
    REFERENCES = 9 References Bulk,
    WRITTEN = 10 Written Urgent,
    ACKNOWLEDGED = 11 Acknowledged Urgent,
    SEAL = 12 Seal Ordered,
    SEALED = 13 Sealed Ordered,
    CHUNK_DIGESTS = 14 ChunkDigests Ordered,
    CHUNK_REQUEST = 15 ChunkRequest Ordered,
    FULL_DIGESTS = 16 FullDigests Bulk,
    ERROR = 17 Error Urgent,
    OPEN = 18 Open Link,
    WELCOME = 19 Welcome Link,
    JOIN = 20 Join Link,
    JOINED = 21 Joined Link,
    PING = 22 Ping Link,
    PONG = 23 Pong Link,
    BYE = 24 Bye Link,
    KNOWN_DIGESTS = 25 KnownDigests Ordered,
}
