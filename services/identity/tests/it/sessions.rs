//! Sessions: listed, used, ended.
use std::time::Duration;

use rapport_proto::identity::v1 as pb;
use tonic::Code;

use crate::{
    caller::{Caller, reason, refusal},
    world::{PASSWORD, World},
};

async fn list(caller: &Caller) -> Vec<pb::Session> {
    caller.sessions().list_sessions(pb::ListSessionsRequest {}).await.unwrap().into_inner().sessions
}

async fn change_password(caller: &Caller, current: &str, new: &str) -> Result<(), tonic::Status> {
    let request = pb::ChangePasswordRequest { current_password: current.into(), new_password: new.into() };
    caller.users().change_password(request).await.map(drop)
}

#[tokio::test]
async fn sessions_are_listed_with_where_they_came_from_the_latest_used_first() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let li = acme.person("li", &[]).await;
    let first = acme.sign_in(&li).await.unwrap();
    world.wait(Duration::from_secs(10));
    let second = acme.sign_in(&li).await.unwrap();
    acme.caller(&acme.person("wang", &[]).await).await;

    let caller = world.session(&second).await.unwrap();
    let sessions = list(&caller).await;
    assert_eq!(sessions.iter().map(|session| session.current).collect::<Vec<_>>(), [true, false]);
    assert!(sessions.iter().all(|session| session.user_agent == "Firefox"));
    // The exchange noted from where the second is used now.
    assert_eq!(
        (sessions[0].ip_address.as_str(), sessions[1].ip_address.as_str()),
        ("192.0.2.9", "192.0.2.1")
    );

    world.wait(Duration::from_secs(60));
    let caller = world.session(&first).await.unwrap();
    let sessions = list(&caller).await;
    assert_eq!(sessions.iter().map(|session| session.current).collect::<Vec<_>>(), [true, false]);
    let ends =
        |session: &pb::Session| session.expire_time.unwrap().seconds - session.last_use_time.unwrap().seconds;
    assert_eq!(sessions.iter().map(ends).collect::<Vec<_>>(), [1800, 1800]);
}

#[tokio::test]
async fn a_session_ends_after_half_an_hour_without_use_and_after_twelve_hours_with_it() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let li = acme.person("li", &[]).await;
    let idle = acme.sign_in(&li).await.unwrap();
    world.wait(Duration::from_secs(29 * 60));
    world.session(&idle).await.unwrap();
    world.wait(Duration::from_secs(30 * 60));
    assert_eq!(refusal(world.session(&idle).await.map(drop)).0, Code::Unauthenticated);

    let busy = acme.sign_in(&li).await.unwrap();
    for _ in 0..36 {
        world.wait(Duration::from_secs(20 * 60 - 1));
        world.session(&busy).await.unwrap();
    }
    world.wait(Duration::from_secs(36));
    assert_eq!(refusal(world.session(&busy).await.map(drop)).0, Code::Unauthenticated);
    // The next sign-in clears away what is over.
    acme.sign_in(&li).await.unwrap();
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM sessions WHERE user_id = $1::uuid")
        .bind(&li.id)
        .fetch_one(&mut world.database.admin().await)
        .await
        .unwrap();
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn signing_out_and_revoking_end_a_session() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let li = acme.person("li", &[]).await;
    let (first, second) = (acme.sign_in(&li).await.unwrap(), acme.sign_in(&li).await.unwrap());
    let caller = world.session(&first).await.unwrap();
    let other = list(&caller).await.into_iter().find(|session| !session.current).unwrap();
    caller.sessions().revoke_session(pb::RevokeSessionRequest { id: other.id.clone() }).await.unwrap();
    assert_eq!(refusal(world.session(&second).await.map(drop)).0, Code::Unauthenticated);
    let again = caller.sessions().revoke_session(pb::RevokeSessionRequest { id: other.id }).await;
    assert_eq!(reason(again), "NOT_FOUND");

    caller.sessions().sign_out(pb::SignOutRequest {}).await.unwrap();
    assert_eq!(refusal(world.session(&first).await.map(drop)).0, Code::Unauthenticated);
}

#[tokio::test]
async fn nobody_ends_the_sessions_of_others() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let secret = acme.sign_in(&acme.person("li", &[]).await).await.unwrap();
    let li = world.session(&secret).await.unwrap();
    let theirs = list(&li).await.remove(0).id;
    let request = pb::RevokeSessionRequest { id: theirs };
    assert_eq!(reason(acme.admin().await.sessions().revoke_session(request).await), "NOT_FOUND");
    world.session(&secret).await.unwrap();
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let li = acme.person("li", &[]).await;
    let (here, elsewhere) = (acme.sign_in(&li).await.unwrap(), acme.sign_in(&li).await.unwrap());
    let caller = world.session(&here).await.unwrap();
    let new = "the moon over the harbour";
    for (current, wrong, problem) in [
        ("a wrong password", new, "CURRENT_PASSWORD_WRONG"),
        (PASSWORD, "password1234", "INVALID"),
        (PASSWORD, "li@acme.example.com", "INVALID"),
        (PASSWORD, PASSWORD, "INVALID"),
        (PASSWORD, "short", "INVALID"),
    ] {
        assert_eq!(reason(change_password(&caller, current, wrong).await), problem, "{wrong}");
    }
    world.session(&elsewhere).await.unwrap();
    change_password(&caller, PASSWORD, new).await.unwrap();
    world.session(&here).await.unwrap();
    assert_eq!(refusal(world.session(&elsewhere).await.map(drop)).0, Code::Unauthenticated);
    assert_eq!(reason(acme.sign_in(&li).await), "SIGN_IN_FAILED");
    world.sign_in("acme", &li.email, new).await.unwrap();
}

#[tokio::test]
async fn a_session_left_open_does_not_serve_for_guessing_the_password() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let li = acme.person("li", &[]).await;
    let caller = acme.caller(&li).await;
    for _ in 0..10 {
        assert_eq!(
            reason(change_password(&caller, "a wrong one", "whatever it is then").await),
            "CURRENT_PASSWORD_WRONG"
        );
    }
    let right = change_password(&caller, PASSWORD, "the moon over the harbour").await;
    assert_eq!(reason(right), "CURRENT_PASSWORD_WRONG");
    assert_eq!(reason(acme.sign_in(&li).await), "SIGN_IN_FAILED");
}

#[tokio::test]
async fn deactivating_a_user_ends_their_sessions() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let li = acme.person("li", &[]).await;
    let secret = acme.sign_in(&li).await.unwrap();
    let admin = acme.admin().await;
    admin.deactivate(&li.id).await.unwrap();
    assert_eq!(refusal(world.session(&secret).await.map(drop)).0, Code::Unauthenticated);
    let request = pb::ReactivateUserRequest { id: li.id.clone(), ..Default::default() };
    let user = admin.users().reactivate_user(request).await.unwrap().into_inner();
    assert_eq!(user.state(), pb::UserState::Active);
    assert_eq!(refusal(world.session(&secret).await.map(drop)).0, Code::Unauthenticated);
    acme.sign_in(&li).await.unwrap();
}
