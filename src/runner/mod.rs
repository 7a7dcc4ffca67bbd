//! Runs a launch: commands and checks where the operator's rights are, every step noted by the daemon before it begins.
