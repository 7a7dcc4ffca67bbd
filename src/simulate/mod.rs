//! Simulated traffic for the same machine and gates that decide on live traffic, beside the rules that others use.
