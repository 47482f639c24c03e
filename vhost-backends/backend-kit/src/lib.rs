//! What every vhost-user device process is built from: decode, route, handle; in-flight tables.
