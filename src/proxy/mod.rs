//! The data plane: takes requests in, sends each to its variant, and counts what became of it.

mod settings;

pub use settings::{
    ClientLimits, ClientTimeouts, ForwardedHeader, Grace, LiveSettings, ProxySettings, TrustedProxies,
};
