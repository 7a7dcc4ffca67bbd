//! Stories over real sockets with tiny receivers.
