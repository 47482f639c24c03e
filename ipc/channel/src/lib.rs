//! Typed messages with descriptors over SOCK_SEQPACKET: limits, version, deadlines.
