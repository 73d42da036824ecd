//! Sessions over real sockets on the loopback, with certificates of a real authority.

mod floods;
mod hostile;
mod identity;
mod joins;
mod liveness;
mod reload;
mod sessions;
mod site;
mod speed;
mod stranger;
