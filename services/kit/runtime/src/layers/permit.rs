//! Who may call what, from the contract. A method that the contract does not name, or does not say who may call, is
//! refused; and who is not signed in learns nothing but that.
use std::sync::Arc;

use rapport_kernel::{Ctx, Error, Principal, Reads, Scope, TenantState};
use rapport_proto::{Access, Method, Rule};
use tonic::{Code, Status};

use super::{Next, Request, Response, Step, method, refuse};
use crate::witness::{Watched, Witness};

#[derive(Clone)]
pub(crate) struct Permit {
    /// Who sees that a caller of a tenant is refused, here or by the handler, and which private fields they read.
    pub(crate) witness: Option<Witness>,
}

/// The address that a call came from, as the gateway says.
const CLIENT_IP: &str = "rapport-client-ip";

impl Step for Permit {
    async fn run(&self, mut request: Request, next: impl Next) -> Response {
        let method = method(&request);
        let address = request.headers().get(CLIENT_IP).cloned();
        let Some(ctx) = request.extensions_mut().get_mut::<Ctx>() else {
            return refuse(Error::Unauthenticated);
        };
        let watched = self.witness.as_ref().zip(method);
        let watched = watched.and_then(|(witness, method)| Watched::new(witness, ctx, method, address));
        match permit(method, ctx) {
            Ok(scope) => {
                ctx.scope = scope;
                if !ctx.field_rights.private.is_empty() {
                    ctx.reads = watched.clone().map(|watched| Arc::new(watched) as Arc<dyn Reads>);
                }
                let response = next.run(request).await;
                if let Some(watched) = &watched
                    && let Some(status) = denied(&response)
                {
                    watched.refused(status.message());
                }
                response
            }
            Err(status) => {
                if let Some(watched) = watched.filter(|_| status.code() == Code::PermissionDenied) {
                    watched.refused(status.message());
                }
                refuse(status)
            }
        }
    }
}

/// The status of a response that says that the caller may not.
fn denied(response: &Response) -> Option<Status> {
    let code = response.headers().get(Status::GRPC_STATUS)?;
    if Code::from_bytes(code.as_bytes()) != Code::PermissionDenied {
        return None;
    }
    Status::from_header_map(response.headers())
}

/// In which scope the call may be made.
fn permit(method: Option<&Method>, ctx: &Ctx) -> Result<Scope, Status> {
    let rule = method.and_then(|method| method.rule.as_ref());
    if rule == Some(&Rule::Access(Access::Public)) {
        return Ok(Scope::Own);
    }
    if ctx.principal == Principal::Anonymous {
        return Err(Error::Unauthenticated.into());
    }
    let Some(method) = method else {
        return Err(Status::unimplemented("there is no such method"));
    };
    let scope = match rule {
        None => Err(Error::Denied("nobody may call this".into())),
        Some(Rule::Permission(name)) => permission(ctx, name),
        Some(Rule::Access(Access::Public)) => Ok(Scope::Own),
        Some(Rule::Access(Access::SignedIn)) => match ctx.principal {
            Principal::User(_) | Principal::ApiKey(_) | Principal::Operator(_) => Ok(Scope::Own),
            Principal::Service | Principal::Anonymous => {
                Err(Error::Denied("only people and their keys may call this".into()))
            }
        },
        Some(Rule::Access(Access::Internal)) => match ctx.principal {
            Principal::Service => Ok(Scope::All),
            _ => Err(Error::Denied("only Rapport's own services may call this".into())),
        },
        Some(Rule::Access(Access::Operator)) => match ctx.principal {
            Principal::Operator(_) => Ok(Scope::All),
            _ => Err(Error::Denied("only operators may call this".into())),
        },
    }?;
    served(ctx, method)?;
    Ok(scope)
}

fn permission(ctx: &Ctx, name: &str) -> Result<Scope, Error> {
    let scope = ctx.grants.scope(name).ok_or_else(|| Error::denied(name))?;
    if ctx.tenant.uuid().is_nil() {
        return Err(Error::Denied("this is done for a tenant, and the token names none".into()));
    }
    Ok(scope)
}

/// Whether the tenant is served, and may be written to where the method writes.
fn served(ctx: &Ctx, method: &Method) -> Result<(), Error> {
    match ctx.tenant_state.0 {
        TenantState::Active => Ok(()),
        TenantState::Suspended => Err(Error::Denied("this tenant is suspended".into())),
        TenantState::Deleted => Err(Error::Denied("this tenant is deleted".into())),
        TenantState::ReadOnly | TenantState::Moving if !method.writes() => Ok(()),
        TenantState::ReadOnly => Err(Error::rule("TENANT_READ_ONLY", "this tenant is read-only for now")),
        TenantState::Moving => {
            Err(Error::Unavailable("a tenant that is being moved was to be written to".into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use rapport_kernel::{Clock, Grants, Id};
    use uuid::Uuid;

    use super::*;

    const ONE: Uuid = Uuid::from_u128(1);

    fn ctx(principal: Principal, grants: &[(&str, Scope)]) -> Ctx {
        let grants: Grants = grants.iter().copied().collect();
        Ctx { principal, grants: grants.into(), ..Ctx::system(Id::new(ONE), Clock::system()) }
    }

    fn call(path: &str, ctx: &Ctx) -> Result<Scope, (Code, String)> {
        permit(rapport_proto::method(path), ctx)
            .map_err(|status| (status.code(), status.message().to_owned()))
    }

    const READ: &str = "/rapport.customer.v1.CustomerService/GetCustomer";
    const CREATE: &str = "/rapport.customer.v1.CustomerService/CreateCustomer";

    #[test]
    fn a_permission_gives_its_scope() {
        let seller = ctx(Principal::User(ONE), &[("customer.customers.read", Scope::Unit)]);
        assert_eq!(call(READ, &seller), Ok(Scope::Unit));
        let problem = "permission `customer.customers.create` is required".to_owned();
        assert_eq!(call(CREATE, &seller), Err((Code::PermissionDenied, problem)));
    }

    #[test]
    fn what_the_contract_does_not_say_is_refused() {
        let all = ctx(Principal::User(ONE), &[("*", Scope::All)]);
        assert_eq!(
            call("/rapport.customer.v1.CustomerService/Nothing", &all).unwrap_err().0,
            Code::Unimplemented
        );
        let silent = rapport_proto::method(READ).unwrap();
        let silent = Method {
            path: silent.path.clone(),
            descriptor: silent.descriptor.clone(),
            rule: None,
            session: silent.session,
        };
        assert_eq!(permit(Some(&silent), &all).unwrap_err().code(), Code::PermissionDenied);
    }

    #[test]
    fn who_is_not_signed_in_learns_nothing_else() {
        let anonymous = ctx(Principal::Anonymous, &[("*", Scope::All)]);
        let refused = Err((Code::Unauthenticated, "not signed in".to_owned()));
        let paths = rapport_proto::methods().filter(|m| m.rule != Some(Rule::Access(Access::Public)));
        for path in paths.map(|m| m.path.as_str()).chain(["/no/such", ""]) {
            assert_eq!(call(path, &anonymous), refused, "{path}");
        }
        assert_eq!(call("/rapport.identity.v1.SessionService/SignIn", &anonymous), Ok(Scope::Own));
    }

    #[test]
    fn classes_of_callers_are_kept_apart() {
        let (internal, operator, signed_in) = (
            "/rapport.identity.v1.TokenService/ListSigningKeys",
            "/rapport.identity.v1.TenantService/GetTenant",
            "/rapport.identity.v1.UserService/GetMe",
        );
        let all = &[("*", Scope::All)];
        let callers = [
            (Principal::User(ONE), [false, false, true]),
            (Principal::ApiKey(ONE), [false, false, true]),
            (Principal::Operator(ONE), [false, true, true]),
            (Principal::Service, [true, false, false]),
        ];
        for (principal, expected) in callers {
            let may = [internal, operator, signed_in].map(|path| call(path, &ctx(principal, all)).is_ok());
            assert_eq!(may, expected, "{principal}");
        }
    }

    #[test]
    fn a_permission_without_a_tenant_is_refused() {
        let all = [("*", Scope::All)].into_iter().collect::<Grants>().into();
        let nobody = Ctx { grants: all, ..Ctx::system(Id::new(Uuid::nil()), Clock::system()) };
        assert_eq!(call(READ, &nobody).unwrap_err().0, Code::PermissionDenied);
    }

    #[test]
    fn the_tenants_state_decides_what_is_still_done() {
        let with =
            |state| Ctx { tenant_state: (state, 1), ..ctx(Principal::User(ONE), &[("*", Scope::All)]) };
        for (state, read, write) in [
            (TenantState::Active, Code::Ok, Code::Ok),
            (TenantState::ReadOnly, Code::Ok, Code::FailedPrecondition),
            (TenantState::Moving, Code::Ok, Code::Unavailable),
            (TenantState::Suspended, Code::PermissionDenied, Code::PermissionDenied),
            (TenantState::Deleted, Code::PermissionDenied, Code::PermissionDenied),
        ] {
            let code = |path| call(path, &with(state)).map_or_else(|(code, _)| code, |_| Code::Ok);
            assert_eq!((code(READ), code(CREATE)), (read, write), "{state:?}");
        }
    }
}
