//! What people do from end to end.
mod a_customer_is_kept_by_rest_and_grpc;
mod a_manager_sees_what_belongs_to_the_units_below;
mod one_trace_holds_a_request;
mod readiness_is_told_alike_everywhere;
mod real_customers_are_brought_in;
mod what_happens_is_followed_as_it_happens;
