//! Accepts SMTP connections.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Mail;
use super::session::Session;

/// Most connections at once; the next one waits in the listener's backlog.
const CONNECTIONS_MAX: usize = 64;
/// Pause after a failed accept, which usually means that file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until cancelled.
pub(crate) async fn serve(listener: TcpListener, mail: Mail, stop: CancellationToken, tasks: TaskTracker) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = tokio::select! {
            () = stop.cancelled() => return,
            permit = Arc::clone(&permits).acquire_owned() => match permit {
                Ok(permit) => permit,
                Err(_) => return,
            },
        };
        let accepted: std::io::Result<(TcpStream, _)> = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let session = Session::new(stream, mail.clone());
                let stop = stop.clone();
                tasks.spawn(async move {
                    let _permit = permit;
                    tokio::select! {
                        () = stop.cancelled() => {}
                        ended = session.run() => if let Err(error) = ended {
                            tracing::debug!(%error, "mail session ended");
                        },
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a mail connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
