//! `rapport tenant`: creating and listing tenants, as an operator.
use clap::Subcommand;
use rapport_kernel::BoxError;
use rapport_proto::identity::v1::{
    CreateTenantRequest, ListTenantsRequest, Tenant, TenantState, tenant_service_client::TenantServiceClient,
};

use super::client::Target;

/// What to do with tenants.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a tenant and invite its first administrator
    Create {
        /// The name in addresses and at sign-in, e.g. `acme`
        slug: String,
        /// E-mail address of the first administrator
        #[arg(long)]
        administrator: String,
        /// What people call the tenant; the slug unless said
        #[arg(long)]
        name: Option<String>,
        /// Default language, e.g. `zh-CN`
        #[arg(long, default_value = "en")]
        locale: String,
        /// IANA time zone, e.g. `Asia/Shanghai`
        #[arg(long, default_value = "UTC")]
        time_zone: String,
        /// Region of telephone numbers typed without a country code, e.g. `CN`
        #[arg(long, default_value = "")]
        phone_region: String,
        /// ISO 4217 code in which amounts are summed, e.g. `CNY`
        #[arg(long, default_value = "")]
        base_currency: String,
    },
    /// List tenants
    List,
}

/// Does it.
///
/// # Errors
/// In words for whoever typed the command.
#[expect(clippy::print_stdout, reason = "this is what the command answers")]
pub async fn run(options: &Options) -> Result<(), BoxError> {
    let mut tenants = TenantServiceClient::new(options.target.connect_as_operator().await?);
    match &options.action {
        Action::Create { slug, administrator, name, locale, time_zone, phone_region, base_currency } => {
            let request = CreateTenantRequest {
                tenant: Some(Tenant {
                    slug: slug.clone(),
                    display_name: name.clone().unwrap_or_else(|| slug.clone()),
                    locale: locale.clone(),
                    time_zone: time_zone.clone(),
                    phone_region: phone_region.clone(),
                    base_currency: base_currency.clone(),
                    ..Tenant::default()
                }),
                administrator_email: administrator.clone(),
                ..CreateTenantRequest::default()
            };
            let created = tenants.create_tenant(request).await.map_err(said)?.into_inner();
            let id = created.tenant.unwrap_or_default().id;
            println!("tenant {slug} ({id}) is there");
            println!(
                "its administrator {administrator} chooses a password with this invitation, valid for 7 days:"
            );
            println!("  {}", created.invitation_token);
        }
        Action::List => {
            let mut page_token = String::new();
            loop {
                let request =
                    ListTenantsRequest { page_size: 200, page_token, ..ListTenantsRequest::default() };
                let page = tenants.list_tenants(request).await.map_err(said)?.into_inner();
                for tenant in page.tenants {
                    let state = tenant.state();
                    let state = state.as_str_name().trim_start_matches("TENANT_STATE_").to_lowercase();
                    let shown = if tenant.state() == TenantState::Active {
                        String::new()
                    } else {
                        format!("  {state}")
                    };
                    println!("{:<24} {}  {}{shown}", tenant.slug, tenant.id, tenant.display_name);
                }
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// What the service said, without the wrapping.
fn said(status: tonic::Status) -> BoxError {
    status.message().to_owned().into()
}
