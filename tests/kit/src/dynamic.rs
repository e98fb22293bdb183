//! Calling any method of the contract by its descriptor, so that a test covers methods that nobody has written yet.
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use rapport_proto::Method;
use tonic::{
    Request, Status,
    body::Body,
    client::{Grpc, GrpcService},
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::{Body as HttpBody, Bytes, StdError},
};

/// The service that is called: the method's own; of what every service has, one of them.
pub fn host(method: &Method) -> &str {
    if method.is_everywhere() { "customer" } else { method.service() }
}

struct Dynamic(MessageDescriptor);
struct Write;
struct Read(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Write;
    type Decoder = Read;
    fn encoder(&mut self) -> Write {
        Write
    }
    fn decoder(&mut self) -> Read {
        Read(self.0.clone())
    }
}

impl Encoder for Write {
    type Item = DynamicMessage;
    type Error = Status;
    fn encode(&mut self, item: DynamicMessage, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(to).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Read {
    type Item = DynamicMessage;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let read = DynamicMessage::decode(self.0.clone(), from);
        read.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

/// Calls `method` with one message; of a stream of answers, the first is given.
pub async fn call<S>(
    service: S,
    method: &'static Method,
    message: DynamicMessage,
) -> Result<DynamicMessage, Status>
where
    S: GrpcService<Body>,
    S::Error: Into<StdError>,
    S::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <S::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    let mut grpc = Grpc::new(service).max_decoding_message_size(64 << 20);
    grpc.ready().await.map_err(|error| Status::unavailable(error.into().to_string()))?;
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(&method.path);
    let codec = Dynamic(method.output());
    let one = tokio_stream::once(message.clone());
    match (method.descriptor.is_client_streaming(), method.descriptor.is_server_streaming()) {
        (false, false) => Ok(grpc.unary(Request::new(message), path, codec).await?.into_inner()),
        (true, false) => Ok(grpc.client_streaming(Request::new(one), path, codec).await?.into_inner()),
        (streams, true) => {
            let mut answers = if streams {
                grpc.streaming(Request::new(one), path, codec).await?.into_inner()
            } else {
                grpc.server_streaming(Request::new(message), path, codec).await?.into_inner()
            };
            answers.message().await?.ok_or_else(|| Status::not_found("the stream has nothing"))
        }
    }
}
