//! Numbers, dialplan, trunk selection and limits.
