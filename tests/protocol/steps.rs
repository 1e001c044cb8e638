//! How does somebody in the model wait? Until others have taken so many steps.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// Ready when it was polled so often. Whoever polls decides how much else happens between two of them.
pub struct Steps(pub usize);

impl Future for Steps {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        match self.0.checked_sub(1) {
            None => Poll::Ready(()),
            Some(left) => {
                self.0 = left;
                Poll::Pending
            }
        }
    }
}
