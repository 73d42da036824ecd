//! Digest sources against each other: what is trusted is not read, and gives what a scan gives.

mod partly_trusted;
