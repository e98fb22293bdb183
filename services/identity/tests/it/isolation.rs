//! What one tenant has does not exist for another; and what the database itself keeps apart.
use rapport_proto::identity::v1 as pb;
use tonic::{Code, Status};

use crate::{
    caller::refusal,
    world::{World, new_id},
};

#[tokio::test]
async fn ids_of_another_tenant_are_not_found_in_the_words_of_ids_that_do_not_exist() {
    let world = World::new().await;
    let (acme, other) = (world.tenant("acme").await, world.tenant("other").await);
    let theirs = other.admin().await;
    let unit = pb::CreateUnitRequest {
        unit: Some(pb::Unit { display_name: "Sales".into(), ..Default::default() }),
        ..Default::default()
    };
    let unit = theirs.units().create_unit(unit).await.unwrap().into_inner().id;
    let role = other.make_role("mine", &[]).await.rsplit('/').next().unwrap().to_owned();
    let user = other.person("li", &[]).await.id;
    let key = pb::CreateApiKeyRequest {
        api_key: Some(pb::ApiKey { display_name: "ERP".into(), ..Default::default() }),
        ..Default::default()
    };
    let key = theirs.keys().create_api_key(key).await.unwrap().into_inner().api_key.unwrap().id;
    let session =
        theirs.sessions().list_sessions(pb::ListSessionsRequest {}).await.unwrap().into_inner().sessions[0]
            .id
            .clone();

    let before = world.events(other.id).await.len();
    let admin = acme.admin().await;
    let all = async |unit: String,
                     role: String,
                     user: String,
                     key: String,
                     session: String|
           -> Vec<Result<(), Status>> {
        let described = pb::Unit { id: unit.clone(), display_name: "Stolen".into(), ..Default::default() };
        let changed_role = pb::Role { id: role.clone(), display_name: "Stolen".into(), ..Default::default() };
        let changed_user = pb::User { id: user.clone(), display_name: "Stolen".into(), ..Default::default() };
        vec![
            admin.units().get_unit(pb::GetUnitRequest { id: unit.clone() }).await.map(drop),
            admin
                .units()
                .update_unit(pb::UpdateUnitRequest { unit: Some(described), ..Default::default() })
                .await
                .map(drop),
            admin
                .units()
                .delete_unit(pb::DeleteUnitRequest { id: unit, ..Default::default() })
                .await
                .map(drop),
            admin.roles().get_role(pb::GetRoleRequest { id: role.clone() }).await.map(drop),
            admin
                .roles()
                .update_role(pb::UpdateRoleRequest { role: Some(changed_role), ..Default::default() })
                .await
                .map(drop),
            admin
                .roles()
                .delete_role(pb::DeleteRoleRequest { id: role, ..Default::default() })
                .await
                .map(drop),
            admin.users().get_user(pb::GetUserRequest { id: user.clone() }).await.map(drop),
            admin
                .users()
                .update_user(pb::UpdateUserRequest { user: Some(changed_user), ..Default::default() })
                .await
                .map(drop),
            admin
                .users()
                .deactivate_user(pb::DeactivateUserRequest { id: user.clone(), ..Default::default() })
                .await
                .map(drop),
            admin
                .users()
                .reactivate_user(pb::ReactivateUserRequest { id: user.clone(), ..Default::default() })
                .await
                .map(drop),
            admin
                .users()
                .reinvite_user(pb::ReinviteUserRequest { id: user, ..Default::default() })
                .await
                .map(drop),
            admin.keys().get_api_key(pb::GetApiKeyRequest { id: key.clone() }).await.map(drop),
            admin
                .keys()
                .revoke_api_key(pb::RevokeApiKeyRequest { id: key, ..Default::default() })
                .await
                .map(drop),
            admin.sessions().revoke_session(pb::RevokeSessionRequest { id: session }).await.map(drop),
        ]
    };
    let none = new_id().to_string();
    let of_other = all(unit.clone(), role.clone(), user.clone(), key.clone(), session.clone()).await;
    let of_nobody = all(none.clone(), none.clone(), none.clone(), none.clone(), none.clone()).await;
    for (theirs, nobodys) in of_other.into_iter().zip(of_nobody) {
        let (theirs, nobodys) = (refusal(theirs), refusal(nobodys));
        assert_eq!((theirs.0, theirs.1.as_str()), (Code::NotFound, "NOT_FOUND"), "{theirs:?}");
        let plain = [&unit, &role, &user, &key, &session]
            .iter()
            .fold(theirs.2, |words, id| words.replace(id.as_str(), "X"));
        assert_eq!(plain, nobodys.2.replace(&none, "X"));
    }
    assert_eq!(world.events(other.id).await.len(), before, "nothing changed there");

    // Nor can what they have be referred to.
    let referring = pb::User { unit, roles: vec![role], ..acme.user("new", &[]) };
    let invited = admin
        .users()
        .invite_user(pb::InviteUserRequest { user: Some(referring), ..Default::default() })
        .await;
    assert_eq!(refusal(invited).0, Code::InvalidArgument);
}

#[tokio::test]
async fn every_table_is_under_the_policies_or_on_the_list() {
    let world = World::new().await;
    let faults = rapport_identity::audit().faults(&mut world.database.owner().await).await.unwrap();
    assert!(faults.is_empty(), "{faults:#?}");
}
