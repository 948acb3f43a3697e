//! The command actor and the reconciler, with the traits they drive.
