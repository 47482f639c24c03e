//! The frontend side of vhost-user: a typestate whose replies are events with deadlines.
