//! The voice itself: RTP, RTCP, SRTP, codecs, bridge, quality. Pure; `io` holds ports and workers.
