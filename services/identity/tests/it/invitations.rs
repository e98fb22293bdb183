//! Invitations: the link to a password, once and for seven days.
use std::time::Duration;

use rapport_proto::identity::v1 as pb;
use tonic::Code;

use crate::{
    caller::{reason, refusal},
    world::{PASSWORD, Tenant, World, new_id},
};

async fn reinvite(acme: &Tenant<'_>, id: &str) -> Result<pb::InviteUserResponse, tonic::Status> {
    let request = pb::ReinviteUserRequest { id: id.into(), ..Default::default() };
    Ok(acme.admin().await.users().reinvite_user(request).await?.into_inner())
}

#[tokio::test]
async fn a_link_serves_once() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let (invited, told) = acme.subjects(acme.invite("li", &[])).await;
    assert_eq!(told, ["session.sign_in_succeeded.v1", "user.invited.v1"]);
    assert_eq!(invited.user.as_ref().unwrap().state(), pb::UserState::Invited);
    let before = world.events(acme.id).await.len();
    let user = world.accept(&invited.invitation_token, PASSWORD).await.unwrap();
    assert_eq!(user.state(), pb::UserState::Active);

    let events = acme.events_since(before).await;
    assert_eq!(events.len(), 1);
    assert_eq!(
        (events[0].subject.as_str(), events[0].changed_paths.as_slice()),
        ("user.updated.v1", &["state".to_owned()][..])
    );
    assert_eq!((events[0].version, events[0].principal.clone()), (2, format!("identity.user/{}", user.id)));
    let told: pb::UserUpdated = events[0].message();
    assert_eq!(told.before, Some(pb::User { state: pb::UserState::Invited.into(), ..Default::default() }));

    let again = refusal(world.accept(&invited.invitation_token, "another good password").await);
    assert_eq!((again.0, again.1.as_str()), (Code::FailedPrecondition, "INVITATION_INVALID"));
    acme.sign_in(&user).await.unwrap();
}

#[tokio::test]
async fn of_two_who_accept_at_the_same_time_one_succeeds() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let link = acme.invite("li", &[]).await.invitation_token;
    let (one, two) =
        acme.at_once(world.accept(&link, PASSWORD), world.accept(&link, "the moon over the harbour")).await;
    assert_eq!(one.is_ok() as u8 + two.is_ok() as u8, 1, "{one:?} {two:?}");
}

#[tokio::test]
async fn whatever_is_wrong_with_a_link_the_answer_is_the_same() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let other = world.tenant("other").await;
    let link = acme.invite("li", &[]).await.invitation_token;
    let mut forged = link.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'B' } else { 'A' });
    let elsewhere = link.replace(&acme.id.simple().to_string(), &other.id.simple().to_string());
    let nowhere = link.replace(&acme.id.simple().to_string(), &new_id().simple().to_string());
    for wrong in ["nonsense", &forged, &elsewhere, &nowhere, &link.replace("inv_", "ses_")] {
        assert_eq!(reason(world.accept(wrong, PASSWORD).await), "INVITATION_INVALID", "{wrong}");
    }
    world.wait(Duration::from_secs(7 * 24 * 3600));
    assert_eq!(reason(world.accept(&link, PASSWORD).await), "INVITATION_INVALID");
}

#[tokio::test]
async fn a_link_is_valid_for_seven_days() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let link = acme.invite("li", &[]).await.invitation_token;
    world.wait(Duration::from_secs(7 * 24 * 3600 - 1));
    world.accept(&link, PASSWORD).await.unwrap();
}

#[tokio::test]
async fn a_password_that_is_refused_leaves_the_link_good() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let link = acme.invite("elizabeth", &[]).await.invitation_token;
    for (password, problem) in [
        ("password1234", "password: is easy to guess; several unrelated words make a good one"),
        (
            "ELIZABETH@acme.example.com",
            "password: is your e-mail address or your name; choose something that nobody knows",
        ),
    ] {
        assert_eq!(refusal(world.accept(&link, password).await).2, problem);
    }
    assert_eq!(refusal(world.accept(&link, "short").await).0, Code::InvalidArgument);
    world.accept(&link, PASSWORD).await.unwrap();
}

#[tokio::test]
async fn a_new_link_ends_the_older_one() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let invited = acme.invite("li", &[]).await;
    let (again, told) = acme.subjects(reinvite(&acme, &invited.user.unwrap().id)).await;
    assert!(told.contains(&"user.invited.v1".to_owned()), "{told:?}");
    assert_eq!(reason(world.accept(&invited.invitation_token, PASSWORD).await), "INVITATION_INVALID");
    world.accept(&again.unwrap().invitation_token, PASSWORD).await.unwrap();
}

#[tokio::test]
async fn who_forgot_the_password_gets_a_new_link_that_ends_their_sessions() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let li = acme.person("li", &[]).await;
    let secret = acme.sign_in(&li).await.unwrap();
    let link = reinvite(&acme, &li.id).await.unwrap().invitation_token;
    // The old password serves until the link is used.
    acme.sign_in(&li).await.unwrap();
    world.accept(&link, "the moon over the harbour").await.unwrap();
    assert_eq!(reason(acme.sign_in(&li).await), "SIGN_IN_FAILED");
    assert_eq!(refusal(world.session(&secret).await.map(drop)).0, Code::Unauthenticated);
    world.sign_in("acme", &li.email, "the moon over the harbour").await.unwrap();
}

#[tokio::test]
async fn a_deactivated_user_has_no_link() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let invited = acme.invite("li", &[]).await;
    let id = invited.user.unwrap().id;
    let admin = acme.admin().await;
    admin.deactivate(&id).await.unwrap();
    assert_eq!(reason(world.accept(&invited.invitation_token, PASSWORD).await), "INVITATION_INVALID");
    assert_eq!(reason(reinvite(&acme, &id).await), "USER_DEACTIVATED");
    let request = pb::ReactivateUserRequest { id: id.clone(), ..Default::default() };
    let user = admin.users().reactivate_user(request).await.unwrap().into_inner();
    assert_eq!(user.state(), pb::UserState::Invited, "no password was chosen yet");
    let link = reinvite(&acme, &id).await.unwrap().invitation_token;
    world.accept(&link, PASSWORD).await.unwrap();
}

#[tokio::test]
async fn nobody_becomes_somebody_who_may_do_more() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let all = pb::Scope::All;
    let role =
        acme.make_role("people", &[("identity.users.manage", all), ("identity.users.read", all)]).await;
    let clerk = acme.caller(&acme.person("clerk", std::slice::from_ref(&role)).await).await;
    let reinvite = async |id: &str| {
        let request = pb::ReinviteUserRequest { id: id.into(), ..Default::default() };
        refusal(clerk.users().reinvite_user(request).await).0
    };
    // An administrator who has not accepted yet, and a colleague who has.
    let boss = acme.invite("boss", &[acme.role("administrator").await]).await.user.unwrap();
    assert_eq!(reinvite(&boss.id).await, Code::PermissionDenied);
    let colleague = acme.person("colleague", std::slice::from_ref(&role)).await;
    assert_eq!(reinvite(&colleague.id).await, Code::PermissionDenied);
    // One who may no more than the clerk, and has done nothing yet.
    let peer = acme.invite("peer", &[role]).await.user.unwrap();
    let request = pb::ReinviteUserRequest { id: peer.id, ..Default::default() };
    clerk.users().reinvite_user(request).await.unwrap();
}
