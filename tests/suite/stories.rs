//! What people do from end to end.
mod a_customer_is_kept_by_rest_and_grpc;
mod real_customers_are_brought_in;
