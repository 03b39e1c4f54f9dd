//! The B2BUA: two legs made one call. The only room that knows more than one domain.
