package dev.parley.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Stores conversations between callers and agents, and runs their turns.
 * Every call must carry the metadata "authorization: Bearer &lt;JWT&gt;". A call reads and writes only what
 * the token's user owns within the token's tenant.
 * A caller whose token has the scope parley.act may act for another user of the same tenant: it names
 * that user in the metadata "parley-user", as percent-encoded UTF-8 in which visible ASCII may stay as it
 * is ("J%C3%BCrgen"). A name has 1 to 255 bytes, is not blank and has no control characters, else the call
 * ends with INVALID_ARGUMENT; without the scope it ends with PERMISSION_DENIED. The token needs the RPC's
 * own scope as well. No other metadata identifies the caller.
 * Besides the errors listed with each RPC, any call may end with UNAUTHENTICATED, PERMISSION_DENIED
 * (SCOPE_MISSING), INVALID_ARGUMENT, RESOURCE_EXHAUSTED (OVERLOADED), UNAVAILABLE (STORE_UNAVAILABLE,
 * KEYS_UNAVAILABLE, WORKER_DRAINED) or INTERNAL. ErrorReason says what a caller should do about each.
 * </pre>
 */
@io.grpc.stub.annotations.GrpcGenerated
public final class ConversationServiceGrpc {

  private ConversationServiceGrpc() {}

  public static final java.lang.String SERVICE_NAME = "parley.v1.ConversationService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<dev.parley.v1.ChatRequest,
      dev.parley.v1.ChatResponse> getChatMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "Chat",
      requestType = dev.parley.v1.ChatRequest.class,
      responseType = dev.parley.v1.ChatResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.parley.v1.ChatRequest,
      dev.parley.v1.ChatResponse> getChatMethod() {
    io.grpc.MethodDescriptor<dev.parley.v1.ChatRequest, dev.parley.v1.ChatResponse> getChatMethod;
    if ((getChatMethod = ConversationServiceGrpc.getChatMethod) == null) {
      synchronized (ConversationServiceGrpc.class) {
        if ((getChatMethod = ConversationServiceGrpc.getChatMethod) == null) {
          ConversationServiceGrpc.getChatMethod = getChatMethod =
              io.grpc.MethodDescriptor.<dev.parley.v1.ChatRequest, dev.parley.v1.ChatResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "Chat"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.ChatRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.ChatResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ConversationServiceMethodDescriptorSupplier("Chat"))
              .build();
        }
      }
    }
    return getChatMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.parley.v1.StreamChatRequest,
      dev.parley.v1.StreamChatResponse> getStreamChatMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "StreamChat",
      requestType = dev.parley.v1.StreamChatRequest.class,
      responseType = dev.parley.v1.StreamChatResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<dev.parley.v1.StreamChatRequest,
      dev.parley.v1.StreamChatResponse> getStreamChatMethod() {
    io.grpc.MethodDescriptor<dev.parley.v1.StreamChatRequest, dev.parley.v1.StreamChatResponse> getStreamChatMethod;
    if ((getStreamChatMethod = ConversationServiceGrpc.getStreamChatMethod) == null) {
      synchronized (ConversationServiceGrpc.class) {
        if ((getStreamChatMethod = ConversationServiceGrpc.getStreamChatMethod) == null) {
          ConversationServiceGrpc.getStreamChatMethod = getStreamChatMethod =
              io.grpc.MethodDescriptor.<dev.parley.v1.StreamChatRequest, dev.parley.v1.StreamChatResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "StreamChat"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.StreamChatRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.StreamChatResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ConversationServiceMethodDescriptorSupplier("StreamChat"))
              .build();
        }
      }
    }
    return getStreamChatMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.parley.v1.StartTurnRequest,
      dev.parley.v1.StartTurnResponse> getStartTurnMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "StartTurn",
      requestType = dev.parley.v1.StartTurnRequest.class,
      responseType = dev.parley.v1.StartTurnResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.parley.v1.StartTurnRequest,
      dev.parley.v1.StartTurnResponse> getStartTurnMethod() {
    io.grpc.MethodDescriptor<dev.parley.v1.StartTurnRequest, dev.parley.v1.StartTurnResponse> getStartTurnMethod;
    if ((getStartTurnMethod = ConversationServiceGrpc.getStartTurnMethod) == null) {
      synchronized (ConversationServiceGrpc.class) {
        if ((getStartTurnMethod = ConversationServiceGrpc.getStartTurnMethod) == null) {
          ConversationServiceGrpc.getStartTurnMethod = getStartTurnMethod =
              io.grpc.MethodDescriptor.<dev.parley.v1.StartTurnRequest, dev.parley.v1.StartTurnResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "StartTurn"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.StartTurnRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.StartTurnResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ConversationServiceMethodDescriptorSupplier("StartTurn"))
              .build();
        }
      }
    }
    return getStartTurnMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.parley.v1.ResumeTurnRequest,
      dev.parley.v1.ResumeTurnResponse> getResumeTurnMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ResumeTurn",
      requestType = dev.parley.v1.ResumeTurnRequest.class,
      responseType = dev.parley.v1.ResumeTurnResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.parley.v1.ResumeTurnRequest,
      dev.parley.v1.ResumeTurnResponse> getResumeTurnMethod() {
    io.grpc.MethodDescriptor<dev.parley.v1.ResumeTurnRequest, dev.parley.v1.ResumeTurnResponse> getResumeTurnMethod;
    if ((getResumeTurnMethod = ConversationServiceGrpc.getResumeTurnMethod) == null) {
      synchronized (ConversationServiceGrpc.class) {
        if ((getResumeTurnMethod = ConversationServiceGrpc.getResumeTurnMethod) == null) {
          ConversationServiceGrpc.getResumeTurnMethod = getResumeTurnMethod =
              io.grpc.MethodDescriptor.<dev.parley.v1.ResumeTurnRequest, dev.parley.v1.ResumeTurnResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ResumeTurn"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.ResumeTurnRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.ResumeTurnResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ConversationServiceMethodDescriptorSupplier("ResumeTurn"))
              .build();
        }
      }
    }
    return getResumeTurnMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.parley.v1.StreamResumeTurnRequest,
      dev.parley.v1.StreamResumeTurnResponse> getStreamResumeTurnMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "StreamResumeTurn",
      requestType = dev.parley.v1.StreamResumeTurnRequest.class,
      responseType = dev.parley.v1.StreamResumeTurnResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<dev.parley.v1.StreamResumeTurnRequest,
      dev.parley.v1.StreamResumeTurnResponse> getStreamResumeTurnMethod() {
    io.grpc.MethodDescriptor<dev.parley.v1.StreamResumeTurnRequest, dev.parley.v1.StreamResumeTurnResponse> getStreamResumeTurnMethod;
    if ((getStreamResumeTurnMethod = ConversationServiceGrpc.getStreamResumeTurnMethod) == null) {
      synchronized (ConversationServiceGrpc.class) {
        if ((getStreamResumeTurnMethod = ConversationServiceGrpc.getStreamResumeTurnMethod) == null) {
          ConversationServiceGrpc.getStreamResumeTurnMethod = getStreamResumeTurnMethod =
              io.grpc.MethodDescriptor.<dev.parley.v1.StreamResumeTurnRequest, dev.parley.v1.StreamResumeTurnResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "StreamResumeTurn"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.StreamResumeTurnRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.StreamResumeTurnResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ConversationServiceMethodDescriptorSupplier("StreamResumeTurn"))
              .build();
        }
      }
    }
    return getStreamResumeTurnMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.parley.v1.GetHistoryRequest,
      dev.parley.v1.GetHistoryResponse> getGetHistoryMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetHistory",
      requestType = dev.parley.v1.GetHistoryRequest.class,
      responseType = dev.parley.v1.GetHistoryResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.parley.v1.GetHistoryRequest,
      dev.parley.v1.GetHistoryResponse> getGetHistoryMethod() {
    io.grpc.MethodDescriptor<dev.parley.v1.GetHistoryRequest, dev.parley.v1.GetHistoryResponse> getGetHistoryMethod;
    if ((getGetHistoryMethod = ConversationServiceGrpc.getGetHistoryMethod) == null) {
      synchronized (ConversationServiceGrpc.class) {
        if ((getGetHistoryMethod = ConversationServiceGrpc.getGetHistoryMethod) == null) {
          ConversationServiceGrpc.getGetHistoryMethod = getGetHistoryMethod =
              io.grpc.MethodDescriptor.<dev.parley.v1.GetHistoryRequest, dev.parley.v1.GetHistoryResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetHistory"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.GetHistoryRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.GetHistoryResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ConversationServiceMethodDescriptorSupplier("GetHistory"))
              .build();
        }
      }
    }
    return getGetHistoryMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.parley.v1.CreateConversationRequest,
      dev.parley.v1.CreateConversationResponse> getCreateConversationMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "CreateConversation",
      requestType = dev.parley.v1.CreateConversationRequest.class,
      responseType = dev.parley.v1.CreateConversationResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.parley.v1.CreateConversationRequest,
      dev.parley.v1.CreateConversationResponse> getCreateConversationMethod() {
    io.grpc.MethodDescriptor<dev.parley.v1.CreateConversationRequest, dev.parley.v1.CreateConversationResponse> getCreateConversationMethod;
    if ((getCreateConversationMethod = ConversationServiceGrpc.getCreateConversationMethod) == null) {
      synchronized (ConversationServiceGrpc.class) {
        if ((getCreateConversationMethod = ConversationServiceGrpc.getCreateConversationMethod) == null) {
          ConversationServiceGrpc.getCreateConversationMethod = getCreateConversationMethod =
              io.grpc.MethodDescriptor.<dev.parley.v1.CreateConversationRequest, dev.parley.v1.CreateConversationResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "CreateConversation"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.CreateConversationRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.CreateConversationResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ConversationServiceMethodDescriptorSupplier("CreateConversation"))
              .build();
        }
      }
    }
    return getCreateConversationMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.parley.v1.GetConversationRequest,
      dev.parley.v1.GetConversationResponse> getGetConversationMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetConversation",
      requestType = dev.parley.v1.GetConversationRequest.class,
      responseType = dev.parley.v1.GetConversationResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.parley.v1.GetConversationRequest,
      dev.parley.v1.GetConversationResponse> getGetConversationMethod() {
    io.grpc.MethodDescriptor<dev.parley.v1.GetConversationRequest, dev.parley.v1.GetConversationResponse> getGetConversationMethod;
    if ((getGetConversationMethod = ConversationServiceGrpc.getGetConversationMethod) == null) {
      synchronized (ConversationServiceGrpc.class) {
        if ((getGetConversationMethod = ConversationServiceGrpc.getGetConversationMethod) == null) {
          ConversationServiceGrpc.getGetConversationMethod = getGetConversationMethod =
              io.grpc.MethodDescriptor.<dev.parley.v1.GetConversationRequest, dev.parley.v1.GetConversationResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetConversation"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.GetConversationRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.GetConversationResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ConversationServiceMethodDescriptorSupplier("GetConversation"))
              .build();
        }
      }
    }
    return getGetConversationMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.parley.v1.UpdateConversationRequest,
      dev.parley.v1.UpdateConversationResponse> getUpdateConversationMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "UpdateConversation",
      requestType = dev.parley.v1.UpdateConversationRequest.class,
      responseType = dev.parley.v1.UpdateConversationResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.parley.v1.UpdateConversationRequest,
      dev.parley.v1.UpdateConversationResponse> getUpdateConversationMethod() {
    io.grpc.MethodDescriptor<dev.parley.v1.UpdateConversationRequest, dev.parley.v1.UpdateConversationResponse> getUpdateConversationMethod;
    if ((getUpdateConversationMethod = ConversationServiceGrpc.getUpdateConversationMethod) == null) {
      synchronized (ConversationServiceGrpc.class) {
        if ((getUpdateConversationMethod = ConversationServiceGrpc.getUpdateConversationMethod) == null) {
          ConversationServiceGrpc.getUpdateConversationMethod = getUpdateConversationMethod =
              io.grpc.MethodDescriptor.<dev.parley.v1.UpdateConversationRequest, dev.parley.v1.UpdateConversationResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "UpdateConversation"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.UpdateConversationRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.UpdateConversationResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ConversationServiceMethodDescriptorSupplier("UpdateConversation"))
              .build();
        }
      }
    }
    return getUpdateConversationMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.parley.v1.DeleteConversationRequest,
      dev.parley.v1.DeleteConversationResponse> getDeleteConversationMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "DeleteConversation",
      requestType = dev.parley.v1.DeleteConversationRequest.class,
      responseType = dev.parley.v1.DeleteConversationResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.parley.v1.DeleteConversationRequest,
      dev.parley.v1.DeleteConversationResponse> getDeleteConversationMethod() {
    io.grpc.MethodDescriptor<dev.parley.v1.DeleteConversationRequest, dev.parley.v1.DeleteConversationResponse> getDeleteConversationMethod;
    if ((getDeleteConversationMethod = ConversationServiceGrpc.getDeleteConversationMethod) == null) {
      synchronized (ConversationServiceGrpc.class) {
        if ((getDeleteConversationMethod = ConversationServiceGrpc.getDeleteConversationMethod) == null) {
          ConversationServiceGrpc.getDeleteConversationMethod = getDeleteConversationMethod =
              io.grpc.MethodDescriptor.<dev.parley.v1.DeleteConversationRequest, dev.parley.v1.DeleteConversationResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "DeleteConversation"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.DeleteConversationRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.DeleteConversationResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ConversationServiceMethodDescriptorSupplier("DeleteConversation"))
              .build();
        }
      }
    }
    return getDeleteConversationMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.parley.v1.UndeleteConversationRequest,
      dev.parley.v1.UndeleteConversationResponse> getUndeleteConversationMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "UndeleteConversation",
      requestType = dev.parley.v1.UndeleteConversationRequest.class,
      responseType = dev.parley.v1.UndeleteConversationResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.parley.v1.UndeleteConversationRequest,
      dev.parley.v1.UndeleteConversationResponse> getUndeleteConversationMethod() {
    io.grpc.MethodDescriptor<dev.parley.v1.UndeleteConversationRequest, dev.parley.v1.UndeleteConversationResponse> getUndeleteConversationMethod;
    if ((getUndeleteConversationMethod = ConversationServiceGrpc.getUndeleteConversationMethod) == null) {
      synchronized (ConversationServiceGrpc.class) {
        if ((getUndeleteConversationMethod = ConversationServiceGrpc.getUndeleteConversationMethod) == null) {
          ConversationServiceGrpc.getUndeleteConversationMethod = getUndeleteConversationMethod =
              io.grpc.MethodDescriptor.<dev.parley.v1.UndeleteConversationRequest, dev.parley.v1.UndeleteConversationResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "UndeleteConversation"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.UndeleteConversationRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.UndeleteConversationResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ConversationServiceMethodDescriptorSupplier("UndeleteConversation"))
              .build();
        }
      }
    }
    return getUndeleteConversationMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.parley.v1.ListConversationsRequest,
      dev.parley.v1.ListConversationsResponse> getListConversationsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListConversations",
      requestType = dev.parley.v1.ListConversationsRequest.class,
      responseType = dev.parley.v1.ListConversationsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.parley.v1.ListConversationsRequest,
      dev.parley.v1.ListConversationsResponse> getListConversationsMethod() {
    io.grpc.MethodDescriptor<dev.parley.v1.ListConversationsRequest, dev.parley.v1.ListConversationsResponse> getListConversationsMethod;
    if ((getListConversationsMethod = ConversationServiceGrpc.getListConversationsMethod) == null) {
      synchronized (ConversationServiceGrpc.class) {
        if ((getListConversationsMethod = ConversationServiceGrpc.getListConversationsMethod) == null) {
          ConversationServiceGrpc.getListConversationsMethod = getListConversationsMethod =
              io.grpc.MethodDescriptor.<dev.parley.v1.ListConversationsRequest, dev.parley.v1.ListConversationsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListConversations"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.ListConversationsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.ListConversationsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ConversationServiceMethodDescriptorSupplier("ListConversations"))
              .build();
        }
      }
    }
    return getListConversationsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.parley.v1.GetTurnRequest,
      dev.parley.v1.GetTurnResponse> getGetTurnMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetTurn",
      requestType = dev.parley.v1.GetTurnRequest.class,
      responseType = dev.parley.v1.GetTurnResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.parley.v1.GetTurnRequest,
      dev.parley.v1.GetTurnResponse> getGetTurnMethod() {
    io.grpc.MethodDescriptor<dev.parley.v1.GetTurnRequest, dev.parley.v1.GetTurnResponse> getGetTurnMethod;
    if ((getGetTurnMethod = ConversationServiceGrpc.getGetTurnMethod) == null) {
      synchronized (ConversationServiceGrpc.class) {
        if ((getGetTurnMethod = ConversationServiceGrpc.getGetTurnMethod) == null) {
          ConversationServiceGrpc.getGetTurnMethod = getGetTurnMethod =
              io.grpc.MethodDescriptor.<dev.parley.v1.GetTurnRequest, dev.parley.v1.GetTurnResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetTurn"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.GetTurnRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.GetTurnResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ConversationServiceMethodDescriptorSupplier("GetTurn"))
              .build();
        }
      }
    }
    return getGetTurnMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.parley.v1.CancelTurnRequest,
      dev.parley.v1.CancelTurnResponse> getCancelTurnMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "CancelTurn",
      requestType = dev.parley.v1.CancelTurnRequest.class,
      responseType = dev.parley.v1.CancelTurnResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.parley.v1.CancelTurnRequest,
      dev.parley.v1.CancelTurnResponse> getCancelTurnMethod() {
    io.grpc.MethodDescriptor<dev.parley.v1.CancelTurnRequest, dev.parley.v1.CancelTurnResponse> getCancelTurnMethod;
    if ((getCancelTurnMethod = ConversationServiceGrpc.getCancelTurnMethod) == null) {
      synchronized (ConversationServiceGrpc.class) {
        if ((getCancelTurnMethod = ConversationServiceGrpc.getCancelTurnMethod) == null) {
          ConversationServiceGrpc.getCancelTurnMethod = getCancelTurnMethod =
              io.grpc.MethodDescriptor.<dev.parley.v1.CancelTurnRequest, dev.parley.v1.CancelTurnResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "CancelTurn"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.CancelTurnRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.CancelTurnResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ConversationServiceMethodDescriptorSupplier("CancelTurn"))
              .build();
        }
      }
    }
    return getCancelTurnMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.parley.v1.WatchConversationRequest,
      dev.parley.v1.WatchConversationResponse> getWatchConversationMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "WatchConversation",
      requestType = dev.parley.v1.WatchConversationRequest.class,
      responseType = dev.parley.v1.WatchConversationResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<dev.parley.v1.WatchConversationRequest,
      dev.parley.v1.WatchConversationResponse> getWatchConversationMethod() {
    io.grpc.MethodDescriptor<dev.parley.v1.WatchConversationRequest, dev.parley.v1.WatchConversationResponse> getWatchConversationMethod;
    if ((getWatchConversationMethod = ConversationServiceGrpc.getWatchConversationMethod) == null) {
      synchronized (ConversationServiceGrpc.class) {
        if ((getWatchConversationMethod = ConversationServiceGrpc.getWatchConversationMethod) == null) {
          ConversationServiceGrpc.getWatchConversationMethod = getWatchConversationMethod =
              io.grpc.MethodDescriptor.<dev.parley.v1.WatchConversationRequest, dev.parley.v1.WatchConversationResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "WatchConversation"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.WatchConversationRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.WatchConversationResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ConversationServiceMethodDescriptorSupplier("WatchConversation"))
              .build();
        }
      }
    }
    return getWatchConversationMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.parley.v1.AppendMessagesRequest,
      dev.parley.v1.AppendMessagesResponse> getAppendMessagesMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "AppendMessages",
      requestType = dev.parley.v1.AppendMessagesRequest.class,
      responseType = dev.parley.v1.AppendMessagesResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.parley.v1.AppendMessagesRequest,
      dev.parley.v1.AppendMessagesResponse> getAppendMessagesMethod() {
    io.grpc.MethodDescriptor<dev.parley.v1.AppendMessagesRequest, dev.parley.v1.AppendMessagesResponse> getAppendMessagesMethod;
    if ((getAppendMessagesMethod = ConversationServiceGrpc.getAppendMessagesMethod) == null) {
      synchronized (ConversationServiceGrpc.class) {
        if ((getAppendMessagesMethod = ConversationServiceGrpc.getAppendMessagesMethod) == null) {
          ConversationServiceGrpc.getAppendMessagesMethod = getAppendMessagesMethod =
              io.grpc.MethodDescriptor.<dev.parley.v1.AppendMessagesRequest, dev.parley.v1.AppendMessagesResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "AppendMessages"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.AppendMessagesRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.AppendMessagesResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ConversationServiceMethodDescriptorSupplier("AppendMessages"))
              .build();
        }
      }
    }
    return getAppendMessagesMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.parley.v1.ForkConversationRequest,
      dev.parley.v1.ForkConversationResponse> getForkConversationMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ForkConversation",
      requestType = dev.parley.v1.ForkConversationRequest.class,
      responseType = dev.parley.v1.ForkConversationResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.parley.v1.ForkConversationRequest,
      dev.parley.v1.ForkConversationResponse> getForkConversationMethod() {
    io.grpc.MethodDescriptor<dev.parley.v1.ForkConversationRequest, dev.parley.v1.ForkConversationResponse> getForkConversationMethod;
    if ((getForkConversationMethod = ConversationServiceGrpc.getForkConversationMethod) == null) {
      synchronized (ConversationServiceGrpc.class) {
        if ((getForkConversationMethod = ConversationServiceGrpc.getForkConversationMethod) == null) {
          ConversationServiceGrpc.getForkConversationMethod = getForkConversationMethod =
              io.grpc.MethodDescriptor.<dev.parley.v1.ForkConversationRequest, dev.parley.v1.ForkConversationResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ForkConversation"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.ForkConversationRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.ForkConversationResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ConversationServiceMethodDescriptorSupplier("ForkConversation"))
              .build();
        }
      }
    }
    return getForkConversationMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.parley.v1.ExportConversationsRequest,
      dev.parley.v1.ExportConversationsResponse> getExportConversationsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ExportConversations",
      requestType = dev.parley.v1.ExportConversationsRequest.class,
      responseType = dev.parley.v1.ExportConversationsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<dev.parley.v1.ExportConversationsRequest,
      dev.parley.v1.ExportConversationsResponse> getExportConversationsMethod() {
    io.grpc.MethodDescriptor<dev.parley.v1.ExportConversationsRequest, dev.parley.v1.ExportConversationsResponse> getExportConversationsMethod;
    if ((getExportConversationsMethod = ConversationServiceGrpc.getExportConversationsMethod) == null) {
      synchronized (ConversationServiceGrpc.class) {
        if ((getExportConversationsMethod = ConversationServiceGrpc.getExportConversationsMethod) == null) {
          ConversationServiceGrpc.getExportConversationsMethod = getExportConversationsMethod =
              io.grpc.MethodDescriptor.<dev.parley.v1.ExportConversationsRequest, dev.parley.v1.ExportConversationsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ExportConversations"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.ExportConversationsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.ExportConversationsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ConversationServiceMethodDescriptorSupplier("ExportConversations"))
              .build();
        }
      }
    }
    return getExportConversationsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.parley.v1.EraseOwnerRequest,
      dev.parley.v1.EraseOwnerResponse> getEraseOwnerMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "EraseOwner",
      requestType = dev.parley.v1.EraseOwnerRequest.class,
      responseType = dev.parley.v1.EraseOwnerResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.parley.v1.EraseOwnerRequest,
      dev.parley.v1.EraseOwnerResponse> getEraseOwnerMethod() {
    io.grpc.MethodDescriptor<dev.parley.v1.EraseOwnerRequest, dev.parley.v1.EraseOwnerResponse> getEraseOwnerMethod;
    if ((getEraseOwnerMethod = ConversationServiceGrpc.getEraseOwnerMethod) == null) {
      synchronized (ConversationServiceGrpc.class) {
        if ((getEraseOwnerMethod = ConversationServiceGrpc.getEraseOwnerMethod) == null) {
          ConversationServiceGrpc.getEraseOwnerMethod = getEraseOwnerMethod =
              io.grpc.MethodDescriptor.<dev.parley.v1.EraseOwnerRequest, dev.parley.v1.EraseOwnerResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "EraseOwner"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.EraseOwnerRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.EraseOwnerResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ConversationServiceMethodDescriptorSupplier("EraseOwner"))
              .build();
        }
      }
    }
    return getEraseOwnerMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.parley.v1.GetUsageRequest,
      dev.parley.v1.GetUsageResponse> getGetUsageMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetUsage",
      requestType = dev.parley.v1.GetUsageRequest.class,
      responseType = dev.parley.v1.GetUsageResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.parley.v1.GetUsageRequest,
      dev.parley.v1.GetUsageResponse> getGetUsageMethod() {
    io.grpc.MethodDescriptor<dev.parley.v1.GetUsageRequest, dev.parley.v1.GetUsageResponse> getGetUsageMethod;
    if ((getGetUsageMethod = ConversationServiceGrpc.getGetUsageMethod) == null) {
      synchronized (ConversationServiceGrpc.class) {
        if ((getGetUsageMethod = ConversationServiceGrpc.getGetUsageMethod) == null) {
          ConversationServiceGrpc.getGetUsageMethod = getGetUsageMethod =
              io.grpc.MethodDescriptor.<dev.parley.v1.GetUsageRequest, dev.parley.v1.GetUsageResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetUsage"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.GetUsageRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.GetUsageResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ConversationServiceMethodDescriptorSupplier("GetUsage"))
              .build();
        }
      }
    }
    return getGetUsageMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.parley.v1.WatchTurnsRequest,
      dev.parley.v1.WatchTurnsResponse> getWatchTurnsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "WatchTurns",
      requestType = dev.parley.v1.WatchTurnsRequest.class,
      responseType = dev.parley.v1.WatchTurnsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<dev.parley.v1.WatchTurnsRequest,
      dev.parley.v1.WatchTurnsResponse> getWatchTurnsMethod() {
    io.grpc.MethodDescriptor<dev.parley.v1.WatchTurnsRequest, dev.parley.v1.WatchTurnsResponse> getWatchTurnsMethod;
    if ((getWatchTurnsMethod = ConversationServiceGrpc.getWatchTurnsMethod) == null) {
      synchronized (ConversationServiceGrpc.class) {
        if ((getWatchTurnsMethod = ConversationServiceGrpc.getWatchTurnsMethod) == null) {
          ConversationServiceGrpc.getWatchTurnsMethod = getWatchTurnsMethod =
              io.grpc.MethodDescriptor.<dev.parley.v1.WatchTurnsRequest, dev.parley.v1.WatchTurnsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "WatchTurns"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.WatchTurnsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.WatchTurnsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ConversationServiceMethodDescriptorSupplier("WatchTurns"))
              .build();
        }
      }
    }
    return getWatchTurnsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.parley.v1.ListAgentsRequest,
      dev.parley.v1.ListAgentsResponse> getListAgentsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListAgents",
      requestType = dev.parley.v1.ListAgentsRequest.class,
      responseType = dev.parley.v1.ListAgentsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.parley.v1.ListAgentsRequest,
      dev.parley.v1.ListAgentsResponse> getListAgentsMethod() {
    io.grpc.MethodDescriptor<dev.parley.v1.ListAgentsRequest, dev.parley.v1.ListAgentsResponse> getListAgentsMethod;
    if ((getListAgentsMethod = ConversationServiceGrpc.getListAgentsMethod) == null) {
      synchronized (ConversationServiceGrpc.class) {
        if ((getListAgentsMethod = ConversationServiceGrpc.getListAgentsMethod) == null) {
          ConversationServiceGrpc.getListAgentsMethod = getListAgentsMethod =
              io.grpc.MethodDescriptor.<dev.parley.v1.ListAgentsRequest, dev.parley.v1.ListAgentsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListAgents"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.ListAgentsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.ListAgentsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ConversationServiceMethodDescriptorSupplier("ListAgents"))
              .build();
        }
      }
    }
    return getListAgentsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.parley.v1.ExplainTurnRequest,
      dev.parley.v1.ExplainTurnResponse> getExplainTurnMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ExplainTurn",
      requestType = dev.parley.v1.ExplainTurnRequest.class,
      responseType = dev.parley.v1.ExplainTurnResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.parley.v1.ExplainTurnRequest,
      dev.parley.v1.ExplainTurnResponse> getExplainTurnMethod() {
    io.grpc.MethodDescriptor<dev.parley.v1.ExplainTurnRequest, dev.parley.v1.ExplainTurnResponse> getExplainTurnMethod;
    if ((getExplainTurnMethod = ConversationServiceGrpc.getExplainTurnMethod) == null) {
      synchronized (ConversationServiceGrpc.class) {
        if ((getExplainTurnMethod = ConversationServiceGrpc.getExplainTurnMethod) == null) {
          ConversationServiceGrpc.getExplainTurnMethod = getExplainTurnMethod =
              io.grpc.MethodDescriptor.<dev.parley.v1.ExplainTurnRequest, dev.parley.v1.ExplainTurnResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ExplainTurn"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.ExplainTurnRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.ExplainTurnResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ConversationServiceMethodDescriptorSupplier("ExplainTurn"))
              .build();
        }
      }
    }
    return getExplainTurnMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.parley.v1.RehearseTurnRequest,
      dev.parley.v1.RehearseTurnResponse> getRehearseTurnMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "RehearseTurn",
      requestType = dev.parley.v1.RehearseTurnRequest.class,
      responseType = dev.parley.v1.RehearseTurnResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<dev.parley.v1.RehearseTurnRequest,
      dev.parley.v1.RehearseTurnResponse> getRehearseTurnMethod() {
    io.grpc.MethodDescriptor<dev.parley.v1.RehearseTurnRequest, dev.parley.v1.RehearseTurnResponse> getRehearseTurnMethod;
    if ((getRehearseTurnMethod = ConversationServiceGrpc.getRehearseTurnMethod) == null) {
      synchronized (ConversationServiceGrpc.class) {
        if ((getRehearseTurnMethod = ConversationServiceGrpc.getRehearseTurnMethod) == null) {
          ConversationServiceGrpc.getRehearseTurnMethod = getRehearseTurnMethod =
              io.grpc.MethodDescriptor.<dev.parley.v1.RehearseTurnRequest, dev.parley.v1.RehearseTurnResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "RehearseTurn"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.RehearseTurnRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.parley.v1.RehearseTurnResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ConversationServiceMethodDescriptorSupplier("RehearseTurn"))
              .build();
        }
      }
    }
    return getRehearseTurnMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static ConversationServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<ConversationServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<ConversationServiceStub>() {
        @java.lang.Override
        public ConversationServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new ConversationServiceStub(channel, callOptions);
        }
      };
    return ConversationServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports all types of calls on the service
   */
  public static ConversationServiceBlockingV2Stub newBlockingV2Stub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<ConversationServiceBlockingV2Stub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<ConversationServiceBlockingV2Stub>() {
        @java.lang.Override
        public ConversationServiceBlockingV2Stub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new ConversationServiceBlockingV2Stub(channel, callOptions);
        }
      };
    return ConversationServiceBlockingV2Stub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static ConversationServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<ConversationServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<ConversationServiceBlockingStub>() {
        @java.lang.Override
        public ConversationServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new ConversationServiceBlockingStub(channel, callOptions);
        }
      };
    return ConversationServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static ConversationServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<ConversationServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<ConversationServiceFutureStub>() {
        @java.lang.Override
        public ConversationServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new ConversationServiceFutureStub(channel, callOptions);
        }
      };
    return ConversationServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Stores conversations between callers and agents, and runs their turns.
   * Every call must carry the metadata "authorization: Bearer &lt;JWT&gt;". A call reads and writes only what
   * the token's user owns within the token's tenant.
   * A caller whose token has the scope parley.act may act for another user of the same tenant: it names
   * that user in the metadata "parley-user", as percent-encoded UTF-8 in which visible ASCII may stay as it
   * is ("J%C3%BCrgen"). A name has 1 to 255 bytes, is not blank and has no control characters, else the call
   * ends with INVALID_ARGUMENT; without the scope it ends with PERMISSION_DENIED. The token needs the RPC's
   * own scope as well. No other metadata identifies the caller.
   * Besides the errors listed with each RPC, any call may end with UNAUTHENTICATED, PERMISSION_DENIED
   * (SCOPE_MISSING), INVALID_ARGUMENT, RESOURCE_EXHAUSTED (OVERLOADED), UNAVAILABLE (STORE_UNAVAILABLE,
   * KEYS_UNAVAILABLE, WORKER_DRAINED) or INTERNAL. ErrorReason says what a caller should do about each.
   * </pre>
   */
  public interface AsyncService {

    /**
     * <pre>
     * Runs one turn and returns the whole answer. Scope: parley.write.
     * OK means that the message and its answer are stored permanently. A call with a request_id can be
     * repeated safely: the turn is made once, and later calls return the same answer.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); ALREADY_EXISTS (REQUEST_ID_REUSED); ABORTED
     * (TURN_IN_PROGRESS, SEQUENCE_MISMATCH, LEASE_LOST); FAILED_PRECONDITION (TURN_SUPERSEDED,
     * ATTEMPTS_EXHAUSTED, AGENT_REFUSED); DEADLINE_EXCEEDED (AGENT_TIMEOUT, DEADLINE_TOO_SHORT);
     * RESOURCE_EXHAUSTED (TURN_LIMIT_REACHED, BUDGET_EXHAUSTED); UNAVAILABLE (AGENT_UNAVAILABLE).
     * </pre>
     */
    default void chat(dev.parley.v1.ChatRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.ChatResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getChatMethod(), responseObserver);
    }

    /**
     * <pre>
     * Runs one turn like Chat and streams the answer while the agent writes it. Scope: parley.write.
     * A second call with the same request_id and arguments attaches to the turn while it runs, on any
     * worker; once the turn has ended, the call returns the stored answer. If the worker that runs the turn
     * dies, an attached stream takes the turn over, as long as the turn has an attempt left.
     * A caller that reads nothing for 30 seconds is treated as disconnected; see on_disconnect.
     * Errors: those of Chat; DEADLINE_EXCEEDED (CALLER_LOST). Events that arrived before an error are not an
     * answer: send the call again.
     * </pre>
     */
    default void streamChat(dev.parley.v1.StreamChatRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.StreamChatResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getStreamChatMethod(), responseObserver);
    }

    /**
     * <pre>
     * Stores a turn and returns at once; a worker runs it without a caller. Scope: parley.write.
     * The turn is TURN_STATE_QUEUED until it begins. Turns of one conversation begin in the order in which they
     * were accepted, one after the other. OK means that the turn is stored permanently and will be run, whatever
     * happens to workers and connections. GetTurn, WatchConversation, WatchTurns and StreamChat with its
     * request_id tell what became of it; CancelTurn before it begins leaves no message behind. A call with a
     * request_id can be repeated safely: it returns the turn as it is then; a turn that has failed is queued
     * again for another attempt, under the conditions under which Chat would run it again.
     * on_busy and on_disconnect are ignored: the turn waits for the conversation, and has no caller to lose.
     * expected_sequence is checked when the turn begins: if it does not hold, the turn fails with
     * SEQUENCE_MISMATCH.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); ALREADY_EXISTS (REQUEST_ID_REUSED); ABORTED (SEQUENCE_MISMATCH):
     * the turn of an earlier call failed with it; FAILED_PRECONDITION (TURN_SUPERSEDED, ATTEMPTS_EXHAUSTED);
     * RESOURCE_EXHAUSTED (TURN_LIMIT_REACHED, BUDGET_EXHAUSTED, QUEUE_FULL).
     * </pre>
     */
    default void startTurn(dev.parley.v1.StartTurnRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.StartTurnResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getStartTurnMethod(), responseObserver);
    }

    /**
     * <pre>
     * Gives a waiting turn what it waits for, and runs it on once nothing is missing. Scope: parley.write.
     * Each pending call gets a result or an error, or an approval or a denial. If some are still missing, the call
     * returns at once with the rest in pending_calls. Otherwise the turn goes on as with Chat, and the call returns
     * its answer, or that it waits again.
     * A call can be repeated safely: results that were given before are taken note of again, and the call returns
     * what became of the turn. Two calls may give results at the same time; one of them runs the turn, both return
     * its answer. A turn that fails after it was resumed is run again by the same call, or by Chat with its
     * request_id; no tool whose result was stored runs again.
     * Errors: those of Chat; NOT_FOUND (TURN_NOT_FOUND); ALREADY_EXISTS (RESULT_ALREADY_GIVEN);
     * FAILED_PRECONDITION (CALL_NOT_PENDING, TURN_SUPERSEDED, ATTEMPTS_EXHAUSTED).
     * </pre>
     */
    default void resumeTurn(dev.parley.v1.ResumeTurnRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.ResumeTurnResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getResumeTurnMethod(), responseObserver);
    }

    /**
     * <pre>
     * ResumeTurn as a stream: the turn's text and tool calls from its beginning on, as the agent writes them.
     * Scope: parley.write.
     * Errors: those of ResumeTurn; DEADLINE_EXCEEDED (CALLER_LOST).
     * </pre>
     */
    default void streamResumeTurn(dev.parley.v1.StreamResumeTurnRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.StreamResumeTurnResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getStreamResumeTurnMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns the messages of one conversation, page by page. Scope: parley.read.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); FAILED_PRECONDITION (SEQUENCE_NOT_REACHED);
     * INVALID_ARGUMENT (INVALID_PAGE_TOKEN).
     * </pre>
     */
    default void getHistory(dev.parley.v1.GetHistoryRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.GetHistoryResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetHistoryMethod(), responseObserver);
    }

    /**
     * <pre>
     * Creates an empty conversation. Scope: parley.write.
     * Chat creates conversations as well; use this call to give one labels, instructions or a title before its
     * first message. A call with a request_id can be repeated safely: the conversation is created once, and
     * later calls return it as it is then.
     * Errors: ALREADY_EXISTS (CONVERSATION_EXISTS, REQUEST_ID_REUSED); NOT_FOUND (CONVERSATION_NOT_FOUND): the
     * request_id has created a conversation that is deleted.
     * </pre>
     */
    default void createConversation(dev.parley.v1.CreateConversationRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.CreateConversationResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getCreateConversationMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns one conversation, without its messages. Scope: parley.read.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND).
     * </pre>
     */
    default void getConversation(dev.parley.v1.GetConversationRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.GetConversationResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetConversationMethod(), responseObserver);
    }

    /**
     * <pre>
     * Changes the title, the labels, the instructions or the agent of a conversation. Scope: parley.write.
     * An open turn keeps its agent. It is told the instructions that the conversation has when an attempt begins: new
     * ones if it goes on after it has waited for its caller, or is run again. The conversation does not move in
     * ListConversations. A call with expected_revision can be repeated safely: it also returns OK if it finds
     * exactly its own change made, at the next revision.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); ABORTED (REVISION_MISMATCH).
     * </pre>
     */
    default void updateConversation(dev.parley.v1.UpdateConversationRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.UpdateConversationResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getUpdateConversationMethod(), responseObserver);
    }

    /**
     * <pre>
     * Deletes a conversation with everything that was said in it. Scope: parley.write.
     * From the moment of OK no call finds it: a turn that is open is stopped and ends with NOT_FOUND, watches
     * end, and Chat with one of its request ids or with its id, allow_missing included, is refused with
     * NOT_FOUND. What was said is removed from the database shortly afterwards, or after the days that the
     * server keeps deleted conversations; until then UndeleteConversation brings it back.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND), unless allow_missing is set.
     * </pre>
     */
    default void deleteConversation(dev.parley.v1.DeleteConversationRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.DeleteConversationResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getDeleteConversationMethod(), responseObserver);
    }

    /**
     * <pre>
     * Brings a deleted conversation back, as it was when it was deleted. Scope: parley.write.
     * A turn that was open then is FAILED and can be retried. A conversation that is not deleted is returned
     * as it is, so the call can be repeated safely.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND): it does not exist, or can no longer be brought back.
     * </pre>
     */
    default void undeleteConversation(dev.parley.v1.UndeleteConversationRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.UndeleteConversationResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getUndeleteConversationMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns the caller's conversations, the most recently active first, page by page. Scope: parley.read.
     * A conversation that becomes active while a caller reads pages moves to the front, so later pages may
     * miss it. No conversation appears twice.
     * Errors: INVALID_ARGUMENT (INVALID_PAGE_TOKEN).
     * </pre>
     */
    default void listConversations(dev.parley.v1.ListConversationsRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.ListConversationsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListConversationsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns the state of a turn. Scope: parley.read.
     * Errors: NOT_FOUND (TURN_NOT_FOUND).
     * </pre>
     */
    default void getTurn(dev.parley.v1.GetTurnRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.GetTurnResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetTurnMethod(), responseObserver);
    }

    /**
     * <pre>
     * Stops a turn on any worker; the text written so far becomes its final answer. Scope: parley.write.
     * The call waits up to 2 seconds for the turn to end and returns the turn's state at that time. A turn
     * that has already ended does not change. Once the request is recorded it holds: if anything ends the
     * turn before it is answered, the turn ends as TURN_STATE_CANCELLED, and the agent does not run again.
     * If the turn's worker died, the answer is what was stored of it: the events of a stream or of a turn of
     * StartTurn, and what stood before a tool call. For a turn of Chat that has called no tool it is empty.
     * Errors: NOT_FOUND (TURN_NOT_FOUND).
     * </pre>
     */
    default void cancelTurn(dev.parley.v1.CancelTurnRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.CancelTurnResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getCancelTurnMethod(), responseObserver);
    }

    /**
     * <pre>
     * Streams the messages and turn states of one conversation: first what is stored, then what is new.
     * Scope: parley.read.
     * Every message arrives once, in order. A watch ends after about four minutes, when the caller reads
     * nothing for 30 seconds, and when the worker shuts down. To continue, call again with after_sequence
     * set to the last sequence delivered.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); RESOURCE_EXHAUSTED (OVERLOADED); UNAVAILABLE
     * (WATCH_EXPIRED, WORKER_DRAINED).
     * </pre>
     */
    default void watchConversation(dev.parley.v1.WatchConversationRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.WatchConversationResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getWatchConversationMethod(), responseObserver);
    }

    /**
     * <pre>
     * Adds messages to a conversation without running an agent. Scope: parley.write.
     * Use it to bring a history from elsewhere, or to note what happened outside of Parley. The agent sees the
     * messages in the next turn. All of them are stored, one after the other, or none. A call with a request_id
     * can be repeated safely: the messages are added once, and later calls return the same sequences.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); ALREADY_EXISTS (REQUEST_ID_REUSED); ABORTED
     * (TURN_IN_PROGRESS, SEQUENCE_MISMATCH); DEADLINE_EXCEEDED (DEADLINE_TOO_SHORT), with ON_BUSY_WAIT only.
     * </pre>
     */
    default void appendMessages(dev.parley.v1.AppendMessagesRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.AppendMessagesResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getAppendMessagesMethod(), responseObserver);
    }

    /**
     * <pre>
     * Creates a conversation with the messages of another one, up to the end of a turn. Scope: parley.write.
     * The new conversation has copies of the messages, with the same sequences, and the title, the labels, the
     * instructions and the agent. From then on both change apart: deleting one leaves the other as it is. A call with a
     * request_id can be repeated safely: the conversation is created once, and later calls return it as it is
     * then.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND): also if the request_id has created a conversation that is
     * deleted; ALREADY_EXISTS (CONVERSATION_EXISTS, REQUEST_ID_REUSED); FAILED_PRECONDITION
     * (SEQUENCE_NOT_REACHED, NOT_A_TURN_BOUNDARY).
     * </pre>
     */
    default void forkConversation(dev.parley.v1.ForkConversationRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.ForkConversationResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getForkConversationMethod(), responseObserver);
    }

    /**
     * <pre>
     * Streams all of the caller's conversations, each followed by its messages. Scope: parley.read.
     * Conversations come in the order of their ids, messages in the order of their sequences. What is written
     * during the export may be in it or not; no message arrives without those before it. An export ends after
     * about four minutes, when the caller reads nothing for 30 seconds, and when the worker shuts down. To
     * continue, call again with the last cursor received.
     * Errors: INVALID_ARGUMENT (INVALID_PAGE_TOKEN): cursor is not one of the caller's; RESOURCE_EXHAUSTED
     * (OVERLOADED); UNAVAILABLE (WATCH_EXPIRED, WORKER_DRAINED).
     * </pre>
     */
    default void exportConversations(dev.parley.v1.ExportConversationsRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.ExportConversationsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getExportConversationsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Erases everything that the caller has stored. Scope: parley.erase, which a token must name.
     * Everything that existed when the first call with this request_id began is removed for good: conversations,
     * deleted ones included, with their messages, turns and events, request ids, and usage. Open turns are stopped
     * as by DeleteConversation. From the moment of OK no call finds any of it. What the caller creates afterwards
     * stays; forks that were made of it before OK do not. Call again with the same request_id to see whether the
     * removal is DONE, and its receipt; the receipt is kept, without any personal data.
     * Errors: none besides those of any call.
     * </pre>
     */
    default void eraseOwner(dev.parley.v1.EraseOwnerRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.EraseOwnerResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getEraseOwnerMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns what the caller's turns used, by day and, if asked for, by agent and label. Scope: parley.read.
     * Every attempt counts, failed ones and those of deleted conversations included.
     * Errors: none besides those of any call.
     * </pre>
     */
    default void getUsage(dev.parley.v1.GetUsageRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.GetUsageResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetUsageMethod(), responseObserver);
    }

    /**
     * <pre>
     * Streams every turn that ends or begins to wait for its caller, once each: those that the server keeps first
     * (PARLEY_FEED_DAYS, 7 days by default), then new ones as they end. Scope: parley.read; with all_owners
     * parley.observe, which a token must name.
     * Turns come in an order in which a cursor misses none, however many end at the same time: close to that
     * in which they ended. A turn that is run again after it failed is told each time that it ends. What
     * belongs to conversations that are deleted meanwhile is left out. A watch ends after about four minutes,
     * when the caller reads nothing for 30 seconds, and when the worker shuts down. To continue, call again with
     * the last cursor received, on any worker.
     * Errors: INVALID_ARGUMENT (INVALID_PAGE_TOKEN): after_cursor is not one of this feed's; FAILED_PRECONDITION
     * (CURSOR_EXPIRED); RESOURCE_EXHAUSTED (OVERLOADED); UNAVAILABLE (WATCH_EXPIRED, WORKER_DRAINED).
     * </pre>
     */
    default void watchTurns(dev.parley.v1.WatchTurnsRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.WatchTurnsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getWatchTurnsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns the agents that a caller can name, by name. Scope: parley.read.
     * Errors: none besides those of any call.
     * </pre>
     */
    default void listAgents(dev.parley.v1.ListAgentsRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.ListAgentsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListAgentsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns what a turn's agent was shown and what it did. Scope: parley.read.
     * The messages are read again, those of `context`, whatever the size of windows is by now; how far the turn's own
     * message was shortened follows the present size. Instructions are never returned, only their digest.
     * Errors: NOT_FOUND (TURN_NOT_FOUND).
     * </pre>
     */
    default void explainTurn(dev.parley.v1.ExplainTurnRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.ExplainTurnResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getExplainTurnMethod(), responseObserver);
    }

    /**
     * <pre>
     * Gives a turn's window and message to an agent again and streams what it answers; nothing is stored. Scope:
     * parley.write.
     * Use it to compare agents. The agent is shown what the turn was shown, or, of a turn without an answer, what the
     * next attempt would be shown. No tool is run: a call that the turn itself made, with the same arguments, gets the
     * result that it got then, any other call gets an error that says that this is a rehearsal. The caller's tools are
     * offered again if the turn has ever waited for its caller. The tokens are used and reported, but appear in no
     * usage. An owner that has reached its turns a minute or its tokens a day, together with what it has rehearsed on
     * the same worker, is refused.
     * Errors: NOT_FOUND (TURN_NOT_FOUND); FAILED_PRECONDITION (WINDOW_INCOMPLETE, NO_REHEARSAL, AGENT_REFUSED);
     * DEADLINE_EXCEEDED (AGENT_TIMEOUT, DEADLINE_TOO_SHORT, CALLER_LOST); RESOURCE_EXHAUSTED (TURN_LIMIT_REACHED,
     * BUDGET_EXHAUSTED, OVERLOADED); UNAVAILABLE (AGENT_UNAVAILABLE, WORKER_DRAINED).
     * </pre>
     */
    default void rehearseTurn(dev.parley.v1.RehearseTurnRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.RehearseTurnResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getRehearseTurnMethod(), responseObserver);
    }
  }

  /**
   * Base class for the server implementation of the service ConversationService.
   * <pre>
   * Stores conversations between callers and agents, and runs their turns.
   * Every call must carry the metadata "authorization: Bearer &lt;JWT&gt;". A call reads and writes only what
   * the token's user owns within the token's tenant.
   * A caller whose token has the scope parley.act may act for another user of the same tenant: it names
   * that user in the metadata "parley-user", as percent-encoded UTF-8 in which visible ASCII may stay as it
   * is ("J%C3%BCrgen"). A name has 1 to 255 bytes, is not blank and has no control characters, else the call
   * ends with INVALID_ARGUMENT; without the scope it ends with PERMISSION_DENIED. The token needs the RPC's
   * own scope as well. No other metadata identifies the caller.
   * Besides the errors listed with each RPC, any call may end with UNAUTHENTICATED, PERMISSION_DENIED
   * (SCOPE_MISSING), INVALID_ARGUMENT, RESOURCE_EXHAUSTED (OVERLOADED), UNAVAILABLE (STORE_UNAVAILABLE,
   * KEYS_UNAVAILABLE, WORKER_DRAINED) or INTERNAL. ErrorReason says what a caller should do about each.
   * </pre>
   */
  public static abstract class ConversationServiceImplBase
      implements io.grpc.BindableService, AsyncService {

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return ConversationServiceGrpc.bindService(this);
    }
  }

  /**
   * A stub to allow clients to do asynchronous rpc calls to service ConversationService.
   * <pre>
   * Stores conversations between callers and agents, and runs their turns.
   * Every call must carry the metadata "authorization: Bearer &lt;JWT&gt;". A call reads and writes only what
   * the token's user owns within the token's tenant.
   * A caller whose token has the scope parley.act may act for another user of the same tenant: it names
   * that user in the metadata "parley-user", as percent-encoded UTF-8 in which visible ASCII may stay as it
   * is ("J%C3%BCrgen"). A name has 1 to 255 bytes, is not blank and has no control characters, else the call
   * ends with INVALID_ARGUMENT; without the scope it ends with PERMISSION_DENIED. The token needs the RPC's
   * own scope as well. No other metadata identifies the caller.
   * Besides the errors listed with each RPC, any call may end with UNAUTHENTICATED, PERMISSION_DENIED
   * (SCOPE_MISSING), INVALID_ARGUMENT, RESOURCE_EXHAUSTED (OVERLOADED), UNAVAILABLE (STORE_UNAVAILABLE,
   * KEYS_UNAVAILABLE, WORKER_DRAINED) or INTERNAL. ErrorReason says what a caller should do about each.
   * </pre>
   */
  public static final class ConversationServiceStub
      extends io.grpc.stub.AbstractAsyncStub<ConversationServiceStub> {
    private ConversationServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected ConversationServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new ConversationServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Runs one turn and returns the whole answer. Scope: parley.write.
     * OK means that the message and its answer are stored permanently. A call with a request_id can be
     * repeated safely: the turn is made once, and later calls return the same answer.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); ALREADY_EXISTS (REQUEST_ID_REUSED); ABORTED
     * (TURN_IN_PROGRESS, SEQUENCE_MISMATCH, LEASE_LOST); FAILED_PRECONDITION (TURN_SUPERSEDED,
     * ATTEMPTS_EXHAUSTED, AGENT_REFUSED); DEADLINE_EXCEEDED (AGENT_TIMEOUT, DEADLINE_TOO_SHORT);
     * RESOURCE_EXHAUSTED (TURN_LIMIT_REACHED, BUDGET_EXHAUSTED); UNAVAILABLE (AGENT_UNAVAILABLE).
     * </pre>
     */
    public void chat(dev.parley.v1.ChatRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.ChatResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getChatMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Runs one turn like Chat and streams the answer while the agent writes it. Scope: parley.write.
     * A second call with the same request_id and arguments attaches to the turn while it runs, on any
     * worker; once the turn has ended, the call returns the stored answer. If the worker that runs the turn
     * dies, an attached stream takes the turn over, as long as the turn has an attempt left.
     * A caller that reads nothing for 30 seconds is treated as disconnected; see on_disconnect.
     * Errors: those of Chat; DEADLINE_EXCEEDED (CALLER_LOST). Events that arrived before an error are not an
     * answer: send the call again.
     * </pre>
     */
    public void streamChat(dev.parley.v1.StreamChatRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.StreamChatResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getStreamChatMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Stores a turn and returns at once; a worker runs it without a caller. Scope: parley.write.
     * The turn is TURN_STATE_QUEUED until it begins. Turns of one conversation begin in the order in which they
     * were accepted, one after the other. OK means that the turn is stored permanently and will be run, whatever
     * happens to workers and connections. GetTurn, WatchConversation, WatchTurns and StreamChat with its
     * request_id tell what became of it; CancelTurn before it begins leaves no message behind. A call with a
     * request_id can be repeated safely: it returns the turn as it is then; a turn that has failed is queued
     * again for another attempt, under the conditions under which Chat would run it again.
     * on_busy and on_disconnect are ignored: the turn waits for the conversation, and has no caller to lose.
     * expected_sequence is checked when the turn begins: if it does not hold, the turn fails with
     * SEQUENCE_MISMATCH.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); ALREADY_EXISTS (REQUEST_ID_REUSED); ABORTED (SEQUENCE_MISMATCH):
     * the turn of an earlier call failed with it; FAILED_PRECONDITION (TURN_SUPERSEDED, ATTEMPTS_EXHAUSTED);
     * RESOURCE_EXHAUSTED (TURN_LIMIT_REACHED, BUDGET_EXHAUSTED, QUEUE_FULL).
     * </pre>
     */
    public void startTurn(dev.parley.v1.StartTurnRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.StartTurnResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getStartTurnMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Gives a waiting turn what it waits for, and runs it on once nothing is missing. Scope: parley.write.
     * Each pending call gets a result or an error, or an approval or a denial. If some are still missing, the call
     * returns at once with the rest in pending_calls. Otherwise the turn goes on as with Chat, and the call returns
     * its answer, or that it waits again.
     * A call can be repeated safely: results that were given before are taken note of again, and the call returns
     * what became of the turn. Two calls may give results at the same time; one of them runs the turn, both return
     * its answer. A turn that fails after it was resumed is run again by the same call, or by Chat with its
     * request_id; no tool whose result was stored runs again.
     * Errors: those of Chat; NOT_FOUND (TURN_NOT_FOUND); ALREADY_EXISTS (RESULT_ALREADY_GIVEN);
     * FAILED_PRECONDITION (CALL_NOT_PENDING, TURN_SUPERSEDED, ATTEMPTS_EXHAUSTED).
     * </pre>
     */
    public void resumeTurn(dev.parley.v1.ResumeTurnRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.ResumeTurnResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getResumeTurnMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * ResumeTurn as a stream: the turn's text and tool calls from its beginning on, as the agent writes them.
     * Scope: parley.write.
     * Errors: those of ResumeTurn; DEADLINE_EXCEEDED (CALLER_LOST).
     * </pre>
     */
    public void streamResumeTurn(dev.parley.v1.StreamResumeTurnRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.StreamResumeTurnResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getStreamResumeTurnMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns the messages of one conversation, page by page. Scope: parley.read.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); FAILED_PRECONDITION (SEQUENCE_NOT_REACHED);
     * INVALID_ARGUMENT (INVALID_PAGE_TOKEN).
     * </pre>
     */
    public void getHistory(dev.parley.v1.GetHistoryRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.GetHistoryResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetHistoryMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Creates an empty conversation. Scope: parley.write.
     * Chat creates conversations as well; use this call to give one labels, instructions or a title before its
     * first message. A call with a request_id can be repeated safely: the conversation is created once, and
     * later calls return it as it is then.
     * Errors: ALREADY_EXISTS (CONVERSATION_EXISTS, REQUEST_ID_REUSED); NOT_FOUND (CONVERSATION_NOT_FOUND): the
     * request_id has created a conversation that is deleted.
     * </pre>
     */
    public void createConversation(dev.parley.v1.CreateConversationRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.CreateConversationResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getCreateConversationMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns one conversation, without its messages. Scope: parley.read.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND).
     * </pre>
     */
    public void getConversation(dev.parley.v1.GetConversationRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.GetConversationResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetConversationMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Changes the title, the labels, the instructions or the agent of a conversation. Scope: parley.write.
     * An open turn keeps its agent. It is told the instructions that the conversation has when an attempt begins: new
     * ones if it goes on after it has waited for its caller, or is run again. The conversation does not move in
     * ListConversations. A call with expected_revision can be repeated safely: it also returns OK if it finds
     * exactly its own change made, at the next revision.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); ABORTED (REVISION_MISMATCH).
     * </pre>
     */
    public void updateConversation(dev.parley.v1.UpdateConversationRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.UpdateConversationResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getUpdateConversationMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Deletes a conversation with everything that was said in it. Scope: parley.write.
     * From the moment of OK no call finds it: a turn that is open is stopped and ends with NOT_FOUND, watches
     * end, and Chat with one of its request ids or with its id, allow_missing included, is refused with
     * NOT_FOUND. What was said is removed from the database shortly afterwards, or after the days that the
     * server keeps deleted conversations; until then UndeleteConversation brings it back.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND), unless allow_missing is set.
     * </pre>
     */
    public void deleteConversation(dev.parley.v1.DeleteConversationRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.DeleteConversationResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getDeleteConversationMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Brings a deleted conversation back, as it was when it was deleted. Scope: parley.write.
     * A turn that was open then is FAILED and can be retried. A conversation that is not deleted is returned
     * as it is, so the call can be repeated safely.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND): it does not exist, or can no longer be brought back.
     * </pre>
     */
    public void undeleteConversation(dev.parley.v1.UndeleteConversationRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.UndeleteConversationResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getUndeleteConversationMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns the caller's conversations, the most recently active first, page by page. Scope: parley.read.
     * A conversation that becomes active while a caller reads pages moves to the front, so later pages may
     * miss it. No conversation appears twice.
     * Errors: INVALID_ARGUMENT (INVALID_PAGE_TOKEN).
     * </pre>
     */
    public void listConversations(dev.parley.v1.ListConversationsRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.ListConversationsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListConversationsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns the state of a turn. Scope: parley.read.
     * Errors: NOT_FOUND (TURN_NOT_FOUND).
     * </pre>
     */
    public void getTurn(dev.parley.v1.GetTurnRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.GetTurnResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetTurnMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Stops a turn on any worker; the text written so far becomes its final answer. Scope: parley.write.
     * The call waits up to 2 seconds for the turn to end and returns the turn's state at that time. A turn
     * that has already ended does not change. Once the request is recorded it holds: if anything ends the
     * turn before it is answered, the turn ends as TURN_STATE_CANCELLED, and the agent does not run again.
     * If the turn's worker died, the answer is what was stored of it: the events of a stream or of a turn of
     * StartTurn, and what stood before a tool call. For a turn of Chat that has called no tool it is empty.
     * Errors: NOT_FOUND (TURN_NOT_FOUND).
     * </pre>
     */
    public void cancelTurn(dev.parley.v1.CancelTurnRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.CancelTurnResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getCancelTurnMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Streams the messages and turn states of one conversation: first what is stored, then what is new.
     * Scope: parley.read.
     * Every message arrives once, in order. A watch ends after about four minutes, when the caller reads
     * nothing for 30 seconds, and when the worker shuts down. To continue, call again with after_sequence
     * set to the last sequence delivered.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); RESOURCE_EXHAUSTED (OVERLOADED); UNAVAILABLE
     * (WATCH_EXPIRED, WORKER_DRAINED).
     * </pre>
     */
    public void watchConversation(dev.parley.v1.WatchConversationRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.WatchConversationResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getWatchConversationMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Adds messages to a conversation without running an agent. Scope: parley.write.
     * Use it to bring a history from elsewhere, or to note what happened outside of Parley. The agent sees the
     * messages in the next turn. All of them are stored, one after the other, or none. A call with a request_id
     * can be repeated safely: the messages are added once, and later calls return the same sequences.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); ALREADY_EXISTS (REQUEST_ID_REUSED); ABORTED
     * (TURN_IN_PROGRESS, SEQUENCE_MISMATCH); DEADLINE_EXCEEDED (DEADLINE_TOO_SHORT), with ON_BUSY_WAIT only.
     * </pre>
     */
    public void appendMessages(dev.parley.v1.AppendMessagesRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.AppendMessagesResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getAppendMessagesMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Creates a conversation with the messages of another one, up to the end of a turn. Scope: parley.write.
     * The new conversation has copies of the messages, with the same sequences, and the title, the labels, the
     * instructions and the agent. From then on both change apart: deleting one leaves the other as it is. A call with a
     * request_id can be repeated safely: the conversation is created once, and later calls return it as it is
     * then.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND): also if the request_id has created a conversation that is
     * deleted; ALREADY_EXISTS (CONVERSATION_EXISTS, REQUEST_ID_REUSED); FAILED_PRECONDITION
     * (SEQUENCE_NOT_REACHED, NOT_A_TURN_BOUNDARY).
     * </pre>
     */
    public void forkConversation(dev.parley.v1.ForkConversationRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.ForkConversationResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getForkConversationMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Streams all of the caller's conversations, each followed by its messages. Scope: parley.read.
     * Conversations come in the order of their ids, messages in the order of their sequences. What is written
     * during the export may be in it or not; no message arrives without those before it. An export ends after
     * about four minutes, when the caller reads nothing for 30 seconds, and when the worker shuts down. To
     * continue, call again with the last cursor received.
     * Errors: INVALID_ARGUMENT (INVALID_PAGE_TOKEN): cursor is not one of the caller's; RESOURCE_EXHAUSTED
     * (OVERLOADED); UNAVAILABLE (WATCH_EXPIRED, WORKER_DRAINED).
     * </pre>
     */
    public void exportConversations(dev.parley.v1.ExportConversationsRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.ExportConversationsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getExportConversationsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Erases everything that the caller has stored. Scope: parley.erase, which a token must name.
     * Everything that existed when the first call with this request_id began is removed for good: conversations,
     * deleted ones included, with their messages, turns and events, request ids, and usage. Open turns are stopped
     * as by DeleteConversation. From the moment of OK no call finds any of it. What the caller creates afterwards
     * stays; forks that were made of it before OK do not. Call again with the same request_id to see whether the
     * removal is DONE, and its receipt; the receipt is kept, without any personal data.
     * Errors: none besides those of any call.
     * </pre>
     */
    public void eraseOwner(dev.parley.v1.EraseOwnerRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.EraseOwnerResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getEraseOwnerMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns what the caller's turns used, by day and, if asked for, by agent and label. Scope: parley.read.
     * Every attempt counts, failed ones and those of deleted conversations included.
     * Errors: none besides those of any call.
     * </pre>
     */
    public void getUsage(dev.parley.v1.GetUsageRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.GetUsageResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetUsageMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Streams every turn that ends or begins to wait for its caller, once each: those that the server keeps first
     * (PARLEY_FEED_DAYS, 7 days by default), then new ones as they end. Scope: parley.read; with all_owners
     * parley.observe, which a token must name.
     * Turns come in an order in which a cursor misses none, however many end at the same time: close to that
     * in which they ended. A turn that is run again after it failed is told each time that it ends. What
     * belongs to conversations that are deleted meanwhile is left out. A watch ends after about four minutes,
     * when the caller reads nothing for 30 seconds, and when the worker shuts down. To continue, call again with
     * the last cursor received, on any worker.
     * Errors: INVALID_ARGUMENT (INVALID_PAGE_TOKEN): after_cursor is not one of this feed's; FAILED_PRECONDITION
     * (CURSOR_EXPIRED); RESOURCE_EXHAUSTED (OVERLOADED); UNAVAILABLE (WATCH_EXPIRED, WORKER_DRAINED).
     * </pre>
     */
    public void watchTurns(dev.parley.v1.WatchTurnsRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.WatchTurnsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getWatchTurnsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns the agents that a caller can name, by name. Scope: parley.read.
     * Errors: none besides those of any call.
     * </pre>
     */
    public void listAgents(dev.parley.v1.ListAgentsRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.ListAgentsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListAgentsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns what a turn's agent was shown and what it did. Scope: parley.read.
     * The messages are read again, those of `context`, whatever the size of windows is by now; how far the turn's own
     * message was shortened follows the present size. Instructions are never returned, only their digest.
     * Errors: NOT_FOUND (TURN_NOT_FOUND).
     * </pre>
     */
    public void explainTurn(dev.parley.v1.ExplainTurnRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.ExplainTurnResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getExplainTurnMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Gives a turn's window and message to an agent again and streams what it answers; nothing is stored. Scope:
     * parley.write.
     * Use it to compare agents. The agent is shown what the turn was shown, or, of a turn without an answer, what the
     * next attempt would be shown. No tool is run: a call that the turn itself made, with the same arguments, gets the
     * result that it got then, any other call gets an error that says that this is a rehearsal. The caller's tools are
     * offered again if the turn has ever waited for its caller. The tokens are used and reported, but appear in no
     * usage. An owner that has reached its turns a minute or its tokens a day, together with what it has rehearsed on
     * the same worker, is refused.
     * Errors: NOT_FOUND (TURN_NOT_FOUND); FAILED_PRECONDITION (WINDOW_INCOMPLETE, NO_REHEARSAL, AGENT_REFUSED);
     * DEADLINE_EXCEEDED (AGENT_TIMEOUT, DEADLINE_TOO_SHORT, CALLER_LOST); RESOURCE_EXHAUSTED (TURN_LIMIT_REACHED,
     * BUDGET_EXHAUSTED, OVERLOADED); UNAVAILABLE (AGENT_UNAVAILABLE, WORKER_DRAINED).
     * </pre>
     */
    public void rehearseTurn(dev.parley.v1.RehearseTurnRequest request,
        io.grpc.stub.StreamObserver<dev.parley.v1.RehearseTurnResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getRehearseTurnMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * A stub to allow clients to do synchronous rpc calls to service ConversationService.
   * <pre>
   * Stores conversations between callers and agents, and runs their turns.
   * Every call must carry the metadata "authorization: Bearer &lt;JWT&gt;". A call reads and writes only what
   * the token's user owns within the token's tenant.
   * A caller whose token has the scope parley.act may act for another user of the same tenant: it names
   * that user in the metadata "parley-user", as percent-encoded UTF-8 in which visible ASCII may stay as it
   * is ("J%C3%BCrgen"). A name has 1 to 255 bytes, is not blank and has no control characters, else the call
   * ends with INVALID_ARGUMENT; without the scope it ends with PERMISSION_DENIED. The token needs the RPC's
   * own scope as well. No other metadata identifies the caller.
   * Besides the errors listed with each RPC, any call may end with UNAUTHENTICATED, PERMISSION_DENIED
   * (SCOPE_MISSING), INVALID_ARGUMENT, RESOURCE_EXHAUSTED (OVERLOADED), UNAVAILABLE (STORE_UNAVAILABLE,
   * KEYS_UNAVAILABLE, WORKER_DRAINED) or INTERNAL. ErrorReason says what a caller should do about each.
   * </pre>
   */
  public static final class ConversationServiceBlockingV2Stub
      extends io.grpc.stub.AbstractBlockingStub<ConversationServiceBlockingV2Stub> {
    private ConversationServiceBlockingV2Stub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected ConversationServiceBlockingV2Stub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new ConversationServiceBlockingV2Stub(channel, callOptions);
    }

    /**
     * <pre>
     * Runs one turn and returns the whole answer. Scope: parley.write.
     * OK means that the message and its answer are stored permanently. A call with a request_id can be
     * repeated safely: the turn is made once, and later calls return the same answer.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); ALREADY_EXISTS (REQUEST_ID_REUSED); ABORTED
     * (TURN_IN_PROGRESS, SEQUENCE_MISMATCH, LEASE_LOST); FAILED_PRECONDITION (TURN_SUPERSEDED,
     * ATTEMPTS_EXHAUSTED, AGENT_REFUSED); DEADLINE_EXCEEDED (AGENT_TIMEOUT, DEADLINE_TOO_SHORT);
     * RESOURCE_EXHAUSTED (TURN_LIMIT_REACHED, BUDGET_EXHAUSTED); UNAVAILABLE (AGENT_UNAVAILABLE).
     * </pre>
     */
    public dev.parley.v1.ChatResponse chat(dev.parley.v1.ChatRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getChatMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Runs one turn like Chat and streams the answer while the agent writes it. Scope: parley.write.
     * A second call with the same request_id and arguments attaches to the turn while it runs, on any
     * worker; once the turn has ended, the call returns the stored answer. If the worker that runs the turn
     * dies, an attached stream takes the turn over, as long as the turn has an attempt left.
     * A caller that reads nothing for 30 seconds is treated as disconnected; see on_disconnect.
     * Errors: those of Chat; DEADLINE_EXCEEDED (CALLER_LOST). Events that arrived before an error are not an
     * answer: send the call again.
     * </pre>
     */
    @io.grpc.ExperimentalApi("https://github.com/grpc/grpc-java/issues/10918")
    public io.grpc.stub.BlockingClientCall<?, dev.parley.v1.StreamChatResponse>
        streamChat(dev.parley.v1.StreamChatRequest request) {
      return io.grpc.stub.ClientCalls.blockingV2ServerStreamingCall(
          getChannel(), getStreamChatMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Stores a turn and returns at once; a worker runs it without a caller. Scope: parley.write.
     * The turn is TURN_STATE_QUEUED until it begins. Turns of one conversation begin in the order in which they
     * were accepted, one after the other. OK means that the turn is stored permanently and will be run, whatever
     * happens to workers and connections. GetTurn, WatchConversation, WatchTurns and StreamChat with its
     * request_id tell what became of it; CancelTurn before it begins leaves no message behind. A call with a
     * request_id can be repeated safely: it returns the turn as it is then; a turn that has failed is queued
     * again for another attempt, under the conditions under which Chat would run it again.
     * on_busy and on_disconnect are ignored: the turn waits for the conversation, and has no caller to lose.
     * expected_sequence is checked when the turn begins: if it does not hold, the turn fails with
     * SEQUENCE_MISMATCH.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); ALREADY_EXISTS (REQUEST_ID_REUSED); ABORTED (SEQUENCE_MISMATCH):
     * the turn of an earlier call failed with it; FAILED_PRECONDITION (TURN_SUPERSEDED, ATTEMPTS_EXHAUSTED);
     * RESOURCE_EXHAUSTED (TURN_LIMIT_REACHED, BUDGET_EXHAUSTED, QUEUE_FULL).
     * </pre>
     */
    public dev.parley.v1.StartTurnResponse startTurn(dev.parley.v1.StartTurnRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getStartTurnMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Gives a waiting turn what it waits for, and runs it on once nothing is missing. Scope: parley.write.
     * Each pending call gets a result or an error, or an approval or a denial. If some are still missing, the call
     * returns at once with the rest in pending_calls. Otherwise the turn goes on as with Chat, and the call returns
     * its answer, or that it waits again.
     * A call can be repeated safely: results that were given before are taken note of again, and the call returns
     * what became of the turn. Two calls may give results at the same time; one of them runs the turn, both return
     * its answer. A turn that fails after it was resumed is run again by the same call, or by Chat with its
     * request_id; no tool whose result was stored runs again.
     * Errors: those of Chat; NOT_FOUND (TURN_NOT_FOUND); ALREADY_EXISTS (RESULT_ALREADY_GIVEN);
     * FAILED_PRECONDITION (CALL_NOT_PENDING, TURN_SUPERSEDED, ATTEMPTS_EXHAUSTED).
     * </pre>
     */
    public dev.parley.v1.ResumeTurnResponse resumeTurn(dev.parley.v1.ResumeTurnRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getResumeTurnMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * ResumeTurn as a stream: the turn's text and tool calls from its beginning on, as the agent writes them.
     * Scope: parley.write.
     * Errors: those of ResumeTurn; DEADLINE_EXCEEDED (CALLER_LOST).
     * </pre>
     */
    @io.grpc.ExperimentalApi("https://github.com/grpc/grpc-java/issues/10918")
    public io.grpc.stub.BlockingClientCall<?, dev.parley.v1.StreamResumeTurnResponse>
        streamResumeTurn(dev.parley.v1.StreamResumeTurnRequest request) {
      return io.grpc.stub.ClientCalls.blockingV2ServerStreamingCall(
          getChannel(), getStreamResumeTurnMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the messages of one conversation, page by page. Scope: parley.read.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); FAILED_PRECONDITION (SEQUENCE_NOT_REACHED);
     * INVALID_ARGUMENT (INVALID_PAGE_TOKEN).
     * </pre>
     */
    public dev.parley.v1.GetHistoryResponse getHistory(dev.parley.v1.GetHistoryRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getGetHistoryMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Creates an empty conversation. Scope: parley.write.
     * Chat creates conversations as well; use this call to give one labels, instructions or a title before its
     * first message. A call with a request_id can be repeated safely: the conversation is created once, and
     * later calls return it as it is then.
     * Errors: ALREADY_EXISTS (CONVERSATION_EXISTS, REQUEST_ID_REUSED); NOT_FOUND (CONVERSATION_NOT_FOUND): the
     * request_id has created a conversation that is deleted.
     * </pre>
     */
    public dev.parley.v1.CreateConversationResponse createConversation(dev.parley.v1.CreateConversationRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getCreateConversationMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns one conversation, without its messages. Scope: parley.read.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND).
     * </pre>
     */
    public dev.parley.v1.GetConversationResponse getConversation(dev.parley.v1.GetConversationRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getGetConversationMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Changes the title, the labels, the instructions or the agent of a conversation. Scope: parley.write.
     * An open turn keeps its agent. It is told the instructions that the conversation has when an attempt begins: new
     * ones if it goes on after it has waited for its caller, or is run again. The conversation does not move in
     * ListConversations. A call with expected_revision can be repeated safely: it also returns OK if it finds
     * exactly its own change made, at the next revision.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); ABORTED (REVISION_MISMATCH).
     * </pre>
     */
    public dev.parley.v1.UpdateConversationResponse updateConversation(dev.parley.v1.UpdateConversationRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getUpdateConversationMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Deletes a conversation with everything that was said in it. Scope: parley.write.
     * From the moment of OK no call finds it: a turn that is open is stopped and ends with NOT_FOUND, watches
     * end, and Chat with one of its request ids or with its id, allow_missing included, is refused with
     * NOT_FOUND. What was said is removed from the database shortly afterwards, or after the days that the
     * server keeps deleted conversations; until then UndeleteConversation brings it back.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND), unless allow_missing is set.
     * </pre>
     */
    public dev.parley.v1.DeleteConversationResponse deleteConversation(dev.parley.v1.DeleteConversationRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getDeleteConversationMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Brings a deleted conversation back, as it was when it was deleted. Scope: parley.write.
     * A turn that was open then is FAILED and can be retried. A conversation that is not deleted is returned
     * as it is, so the call can be repeated safely.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND): it does not exist, or can no longer be brought back.
     * </pre>
     */
    public dev.parley.v1.UndeleteConversationResponse undeleteConversation(dev.parley.v1.UndeleteConversationRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getUndeleteConversationMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the caller's conversations, the most recently active first, page by page. Scope: parley.read.
     * A conversation that becomes active while a caller reads pages moves to the front, so later pages may
     * miss it. No conversation appears twice.
     * Errors: INVALID_ARGUMENT (INVALID_PAGE_TOKEN).
     * </pre>
     */
    public dev.parley.v1.ListConversationsResponse listConversations(dev.parley.v1.ListConversationsRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getListConversationsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the state of a turn. Scope: parley.read.
     * Errors: NOT_FOUND (TURN_NOT_FOUND).
     * </pre>
     */
    public dev.parley.v1.GetTurnResponse getTurn(dev.parley.v1.GetTurnRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getGetTurnMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Stops a turn on any worker; the text written so far becomes its final answer. Scope: parley.write.
     * The call waits up to 2 seconds for the turn to end and returns the turn's state at that time. A turn
     * that has already ended does not change. Once the request is recorded it holds: if anything ends the
     * turn before it is answered, the turn ends as TURN_STATE_CANCELLED, and the agent does not run again.
     * If the turn's worker died, the answer is what was stored of it: the events of a stream or of a turn of
     * StartTurn, and what stood before a tool call. For a turn of Chat that has called no tool it is empty.
     * Errors: NOT_FOUND (TURN_NOT_FOUND).
     * </pre>
     */
    public dev.parley.v1.CancelTurnResponse cancelTurn(dev.parley.v1.CancelTurnRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getCancelTurnMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Streams the messages and turn states of one conversation: first what is stored, then what is new.
     * Scope: parley.read.
     * Every message arrives once, in order. A watch ends after about four minutes, when the caller reads
     * nothing for 30 seconds, and when the worker shuts down. To continue, call again with after_sequence
     * set to the last sequence delivered.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); RESOURCE_EXHAUSTED (OVERLOADED); UNAVAILABLE
     * (WATCH_EXPIRED, WORKER_DRAINED).
     * </pre>
     */
    @io.grpc.ExperimentalApi("https://github.com/grpc/grpc-java/issues/10918")
    public io.grpc.stub.BlockingClientCall<?, dev.parley.v1.WatchConversationResponse>
        watchConversation(dev.parley.v1.WatchConversationRequest request) {
      return io.grpc.stub.ClientCalls.blockingV2ServerStreamingCall(
          getChannel(), getWatchConversationMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Adds messages to a conversation without running an agent. Scope: parley.write.
     * Use it to bring a history from elsewhere, or to note what happened outside of Parley. The agent sees the
     * messages in the next turn. All of them are stored, one after the other, or none. A call with a request_id
     * can be repeated safely: the messages are added once, and later calls return the same sequences.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); ALREADY_EXISTS (REQUEST_ID_REUSED); ABORTED
     * (TURN_IN_PROGRESS, SEQUENCE_MISMATCH); DEADLINE_EXCEEDED (DEADLINE_TOO_SHORT), with ON_BUSY_WAIT only.
     * </pre>
     */
    public dev.parley.v1.AppendMessagesResponse appendMessages(dev.parley.v1.AppendMessagesRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getAppendMessagesMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Creates a conversation with the messages of another one, up to the end of a turn. Scope: parley.write.
     * The new conversation has copies of the messages, with the same sequences, and the title, the labels, the
     * instructions and the agent. From then on both change apart: deleting one leaves the other as it is. A call with a
     * request_id can be repeated safely: the conversation is created once, and later calls return it as it is
     * then.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND): also if the request_id has created a conversation that is
     * deleted; ALREADY_EXISTS (CONVERSATION_EXISTS, REQUEST_ID_REUSED); FAILED_PRECONDITION
     * (SEQUENCE_NOT_REACHED, NOT_A_TURN_BOUNDARY).
     * </pre>
     */
    public dev.parley.v1.ForkConversationResponse forkConversation(dev.parley.v1.ForkConversationRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getForkConversationMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Streams all of the caller's conversations, each followed by its messages. Scope: parley.read.
     * Conversations come in the order of their ids, messages in the order of their sequences. What is written
     * during the export may be in it or not; no message arrives without those before it. An export ends after
     * about four minutes, when the caller reads nothing for 30 seconds, and when the worker shuts down. To
     * continue, call again with the last cursor received.
     * Errors: INVALID_ARGUMENT (INVALID_PAGE_TOKEN): cursor is not one of the caller's; RESOURCE_EXHAUSTED
     * (OVERLOADED); UNAVAILABLE (WATCH_EXPIRED, WORKER_DRAINED).
     * </pre>
     */
    @io.grpc.ExperimentalApi("https://github.com/grpc/grpc-java/issues/10918")
    public io.grpc.stub.BlockingClientCall<?, dev.parley.v1.ExportConversationsResponse>
        exportConversations(dev.parley.v1.ExportConversationsRequest request) {
      return io.grpc.stub.ClientCalls.blockingV2ServerStreamingCall(
          getChannel(), getExportConversationsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Erases everything that the caller has stored. Scope: parley.erase, which a token must name.
     * Everything that existed when the first call with this request_id began is removed for good: conversations,
     * deleted ones included, with their messages, turns and events, request ids, and usage. Open turns are stopped
     * as by DeleteConversation. From the moment of OK no call finds any of it. What the caller creates afterwards
     * stays; forks that were made of it before OK do not. Call again with the same request_id to see whether the
     * removal is DONE, and its receipt; the receipt is kept, without any personal data.
     * Errors: none besides those of any call.
     * </pre>
     */
    public dev.parley.v1.EraseOwnerResponse eraseOwner(dev.parley.v1.EraseOwnerRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getEraseOwnerMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns what the caller's turns used, by day and, if asked for, by agent and label. Scope: parley.read.
     * Every attempt counts, failed ones and those of deleted conversations included.
     * Errors: none besides those of any call.
     * </pre>
     */
    public dev.parley.v1.GetUsageResponse getUsage(dev.parley.v1.GetUsageRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getGetUsageMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Streams every turn that ends or begins to wait for its caller, once each: those that the server keeps first
     * (PARLEY_FEED_DAYS, 7 days by default), then new ones as they end. Scope: parley.read; with all_owners
     * parley.observe, which a token must name.
     * Turns come in an order in which a cursor misses none, however many end at the same time: close to that
     * in which they ended. A turn that is run again after it failed is told each time that it ends. What
     * belongs to conversations that are deleted meanwhile is left out. A watch ends after about four minutes,
     * when the caller reads nothing for 30 seconds, and when the worker shuts down. To continue, call again with
     * the last cursor received, on any worker.
     * Errors: INVALID_ARGUMENT (INVALID_PAGE_TOKEN): after_cursor is not one of this feed's; FAILED_PRECONDITION
     * (CURSOR_EXPIRED); RESOURCE_EXHAUSTED (OVERLOADED); UNAVAILABLE (WATCH_EXPIRED, WORKER_DRAINED).
     * </pre>
     */
    @io.grpc.ExperimentalApi("https://github.com/grpc/grpc-java/issues/10918")
    public io.grpc.stub.BlockingClientCall<?, dev.parley.v1.WatchTurnsResponse>
        watchTurns(dev.parley.v1.WatchTurnsRequest request) {
      return io.grpc.stub.ClientCalls.blockingV2ServerStreamingCall(
          getChannel(), getWatchTurnsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the agents that a caller can name, by name. Scope: parley.read.
     * Errors: none besides those of any call.
     * </pre>
     */
    public dev.parley.v1.ListAgentsResponse listAgents(dev.parley.v1.ListAgentsRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getListAgentsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns what a turn's agent was shown and what it did. Scope: parley.read.
     * The messages are read again, those of `context`, whatever the size of windows is by now; how far the turn's own
     * message was shortened follows the present size. Instructions are never returned, only their digest.
     * Errors: NOT_FOUND (TURN_NOT_FOUND).
     * </pre>
     */
    public dev.parley.v1.ExplainTurnResponse explainTurn(dev.parley.v1.ExplainTurnRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getExplainTurnMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Gives a turn's window and message to an agent again and streams what it answers; nothing is stored. Scope:
     * parley.write.
     * Use it to compare agents. The agent is shown what the turn was shown, or, of a turn without an answer, what the
     * next attempt would be shown. No tool is run: a call that the turn itself made, with the same arguments, gets the
     * result that it got then, any other call gets an error that says that this is a rehearsal. The caller's tools are
     * offered again if the turn has ever waited for its caller. The tokens are used and reported, but appear in no
     * usage. An owner that has reached its turns a minute or its tokens a day, together with what it has rehearsed on
     * the same worker, is refused.
     * Errors: NOT_FOUND (TURN_NOT_FOUND); FAILED_PRECONDITION (WINDOW_INCOMPLETE, NO_REHEARSAL, AGENT_REFUSED);
     * DEADLINE_EXCEEDED (AGENT_TIMEOUT, DEADLINE_TOO_SHORT, CALLER_LOST); RESOURCE_EXHAUSTED (TURN_LIMIT_REACHED,
     * BUDGET_EXHAUSTED, OVERLOADED); UNAVAILABLE (AGENT_UNAVAILABLE, WORKER_DRAINED).
     * </pre>
     */
    @io.grpc.ExperimentalApi("https://github.com/grpc/grpc-java/issues/10918")
    public io.grpc.stub.BlockingClientCall<?, dev.parley.v1.RehearseTurnResponse>
        rehearseTurn(dev.parley.v1.RehearseTurnRequest request) {
      return io.grpc.stub.ClientCalls.blockingV2ServerStreamingCall(
          getChannel(), getRehearseTurnMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do limited synchronous rpc calls to service ConversationService.
   * <pre>
   * Stores conversations between callers and agents, and runs their turns.
   * Every call must carry the metadata "authorization: Bearer &lt;JWT&gt;". A call reads and writes only what
   * the token's user owns within the token's tenant.
   * A caller whose token has the scope parley.act may act for another user of the same tenant: it names
   * that user in the metadata "parley-user", as percent-encoded UTF-8 in which visible ASCII may stay as it
   * is ("J%C3%BCrgen"). A name has 1 to 255 bytes, is not blank and has no control characters, else the call
   * ends with INVALID_ARGUMENT; without the scope it ends with PERMISSION_DENIED. The token needs the RPC's
   * own scope as well. No other metadata identifies the caller.
   * Besides the errors listed with each RPC, any call may end with UNAUTHENTICATED, PERMISSION_DENIED
   * (SCOPE_MISSING), INVALID_ARGUMENT, RESOURCE_EXHAUSTED (OVERLOADED), UNAVAILABLE (STORE_UNAVAILABLE,
   * KEYS_UNAVAILABLE, WORKER_DRAINED) or INTERNAL. ErrorReason says what a caller should do about each.
   * </pre>
   */
  public static final class ConversationServiceBlockingStub
      extends io.grpc.stub.AbstractBlockingStub<ConversationServiceBlockingStub> {
    private ConversationServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected ConversationServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new ConversationServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Runs one turn and returns the whole answer. Scope: parley.write.
     * OK means that the message and its answer are stored permanently. A call with a request_id can be
     * repeated safely: the turn is made once, and later calls return the same answer.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); ALREADY_EXISTS (REQUEST_ID_REUSED); ABORTED
     * (TURN_IN_PROGRESS, SEQUENCE_MISMATCH, LEASE_LOST); FAILED_PRECONDITION (TURN_SUPERSEDED,
     * ATTEMPTS_EXHAUSTED, AGENT_REFUSED); DEADLINE_EXCEEDED (AGENT_TIMEOUT, DEADLINE_TOO_SHORT);
     * RESOURCE_EXHAUSTED (TURN_LIMIT_REACHED, BUDGET_EXHAUSTED); UNAVAILABLE (AGENT_UNAVAILABLE).
     * </pre>
     */
    public dev.parley.v1.ChatResponse chat(dev.parley.v1.ChatRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getChatMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Runs one turn like Chat and streams the answer while the agent writes it. Scope: parley.write.
     * A second call with the same request_id and arguments attaches to the turn while it runs, on any
     * worker; once the turn has ended, the call returns the stored answer. If the worker that runs the turn
     * dies, an attached stream takes the turn over, as long as the turn has an attempt left.
     * A caller that reads nothing for 30 seconds is treated as disconnected; see on_disconnect.
     * Errors: those of Chat; DEADLINE_EXCEEDED (CALLER_LOST). Events that arrived before an error are not an
     * answer: send the call again.
     * </pre>
     */
    public java.util.Iterator<dev.parley.v1.StreamChatResponse> streamChat(
        dev.parley.v1.StreamChatRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getStreamChatMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Stores a turn and returns at once; a worker runs it without a caller. Scope: parley.write.
     * The turn is TURN_STATE_QUEUED until it begins. Turns of one conversation begin in the order in which they
     * were accepted, one after the other. OK means that the turn is stored permanently and will be run, whatever
     * happens to workers and connections. GetTurn, WatchConversation, WatchTurns and StreamChat with its
     * request_id tell what became of it; CancelTurn before it begins leaves no message behind. A call with a
     * request_id can be repeated safely: it returns the turn as it is then; a turn that has failed is queued
     * again for another attempt, under the conditions under which Chat would run it again.
     * on_busy and on_disconnect are ignored: the turn waits for the conversation, and has no caller to lose.
     * expected_sequence is checked when the turn begins: if it does not hold, the turn fails with
     * SEQUENCE_MISMATCH.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); ALREADY_EXISTS (REQUEST_ID_REUSED); ABORTED (SEQUENCE_MISMATCH):
     * the turn of an earlier call failed with it; FAILED_PRECONDITION (TURN_SUPERSEDED, ATTEMPTS_EXHAUSTED);
     * RESOURCE_EXHAUSTED (TURN_LIMIT_REACHED, BUDGET_EXHAUSTED, QUEUE_FULL).
     * </pre>
     */
    public dev.parley.v1.StartTurnResponse startTurn(dev.parley.v1.StartTurnRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getStartTurnMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Gives a waiting turn what it waits for, and runs it on once nothing is missing. Scope: parley.write.
     * Each pending call gets a result or an error, or an approval or a denial. If some are still missing, the call
     * returns at once with the rest in pending_calls. Otherwise the turn goes on as with Chat, and the call returns
     * its answer, or that it waits again.
     * A call can be repeated safely: results that were given before are taken note of again, and the call returns
     * what became of the turn. Two calls may give results at the same time; one of them runs the turn, both return
     * its answer. A turn that fails after it was resumed is run again by the same call, or by Chat with its
     * request_id; no tool whose result was stored runs again.
     * Errors: those of Chat; NOT_FOUND (TURN_NOT_FOUND); ALREADY_EXISTS (RESULT_ALREADY_GIVEN);
     * FAILED_PRECONDITION (CALL_NOT_PENDING, TURN_SUPERSEDED, ATTEMPTS_EXHAUSTED).
     * </pre>
     */
    public dev.parley.v1.ResumeTurnResponse resumeTurn(dev.parley.v1.ResumeTurnRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getResumeTurnMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * ResumeTurn as a stream: the turn's text and tool calls from its beginning on, as the agent writes them.
     * Scope: parley.write.
     * Errors: those of ResumeTurn; DEADLINE_EXCEEDED (CALLER_LOST).
     * </pre>
     */
    public java.util.Iterator<dev.parley.v1.StreamResumeTurnResponse> streamResumeTurn(
        dev.parley.v1.StreamResumeTurnRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getStreamResumeTurnMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the messages of one conversation, page by page. Scope: parley.read.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); FAILED_PRECONDITION (SEQUENCE_NOT_REACHED);
     * INVALID_ARGUMENT (INVALID_PAGE_TOKEN).
     * </pre>
     */
    public dev.parley.v1.GetHistoryResponse getHistory(dev.parley.v1.GetHistoryRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetHistoryMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Creates an empty conversation. Scope: parley.write.
     * Chat creates conversations as well; use this call to give one labels, instructions or a title before its
     * first message. A call with a request_id can be repeated safely: the conversation is created once, and
     * later calls return it as it is then.
     * Errors: ALREADY_EXISTS (CONVERSATION_EXISTS, REQUEST_ID_REUSED); NOT_FOUND (CONVERSATION_NOT_FOUND): the
     * request_id has created a conversation that is deleted.
     * </pre>
     */
    public dev.parley.v1.CreateConversationResponse createConversation(dev.parley.v1.CreateConversationRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getCreateConversationMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns one conversation, without its messages. Scope: parley.read.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND).
     * </pre>
     */
    public dev.parley.v1.GetConversationResponse getConversation(dev.parley.v1.GetConversationRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetConversationMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Changes the title, the labels, the instructions or the agent of a conversation. Scope: parley.write.
     * An open turn keeps its agent. It is told the instructions that the conversation has when an attempt begins: new
     * ones if it goes on after it has waited for its caller, or is run again. The conversation does not move in
     * ListConversations. A call with expected_revision can be repeated safely: it also returns OK if it finds
     * exactly its own change made, at the next revision.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); ABORTED (REVISION_MISMATCH).
     * </pre>
     */
    public dev.parley.v1.UpdateConversationResponse updateConversation(dev.parley.v1.UpdateConversationRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getUpdateConversationMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Deletes a conversation with everything that was said in it. Scope: parley.write.
     * From the moment of OK no call finds it: a turn that is open is stopped and ends with NOT_FOUND, watches
     * end, and Chat with one of its request ids or with its id, allow_missing included, is refused with
     * NOT_FOUND. What was said is removed from the database shortly afterwards, or after the days that the
     * server keeps deleted conversations; until then UndeleteConversation brings it back.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND), unless allow_missing is set.
     * </pre>
     */
    public dev.parley.v1.DeleteConversationResponse deleteConversation(dev.parley.v1.DeleteConversationRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getDeleteConversationMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Brings a deleted conversation back, as it was when it was deleted. Scope: parley.write.
     * A turn that was open then is FAILED and can be retried. A conversation that is not deleted is returned
     * as it is, so the call can be repeated safely.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND): it does not exist, or can no longer be brought back.
     * </pre>
     */
    public dev.parley.v1.UndeleteConversationResponse undeleteConversation(dev.parley.v1.UndeleteConversationRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getUndeleteConversationMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the caller's conversations, the most recently active first, page by page. Scope: parley.read.
     * A conversation that becomes active while a caller reads pages moves to the front, so later pages may
     * miss it. No conversation appears twice.
     * Errors: INVALID_ARGUMENT (INVALID_PAGE_TOKEN).
     * </pre>
     */
    public dev.parley.v1.ListConversationsResponse listConversations(dev.parley.v1.ListConversationsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListConversationsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the state of a turn. Scope: parley.read.
     * Errors: NOT_FOUND (TURN_NOT_FOUND).
     * </pre>
     */
    public dev.parley.v1.GetTurnResponse getTurn(dev.parley.v1.GetTurnRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetTurnMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Stops a turn on any worker; the text written so far becomes its final answer. Scope: parley.write.
     * The call waits up to 2 seconds for the turn to end and returns the turn's state at that time. A turn
     * that has already ended does not change. Once the request is recorded it holds: if anything ends the
     * turn before it is answered, the turn ends as TURN_STATE_CANCELLED, and the agent does not run again.
     * If the turn's worker died, the answer is what was stored of it: the events of a stream or of a turn of
     * StartTurn, and what stood before a tool call. For a turn of Chat that has called no tool it is empty.
     * Errors: NOT_FOUND (TURN_NOT_FOUND).
     * </pre>
     */
    public dev.parley.v1.CancelTurnResponse cancelTurn(dev.parley.v1.CancelTurnRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getCancelTurnMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Streams the messages and turn states of one conversation: first what is stored, then what is new.
     * Scope: parley.read.
     * Every message arrives once, in order. A watch ends after about four minutes, when the caller reads
     * nothing for 30 seconds, and when the worker shuts down. To continue, call again with after_sequence
     * set to the last sequence delivered.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); RESOURCE_EXHAUSTED (OVERLOADED); UNAVAILABLE
     * (WATCH_EXPIRED, WORKER_DRAINED).
     * </pre>
     */
    public java.util.Iterator<dev.parley.v1.WatchConversationResponse> watchConversation(
        dev.parley.v1.WatchConversationRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getWatchConversationMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Adds messages to a conversation without running an agent. Scope: parley.write.
     * Use it to bring a history from elsewhere, or to note what happened outside of Parley. The agent sees the
     * messages in the next turn. All of them are stored, one after the other, or none. A call with a request_id
     * can be repeated safely: the messages are added once, and later calls return the same sequences.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); ALREADY_EXISTS (REQUEST_ID_REUSED); ABORTED
     * (TURN_IN_PROGRESS, SEQUENCE_MISMATCH); DEADLINE_EXCEEDED (DEADLINE_TOO_SHORT), with ON_BUSY_WAIT only.
     * </pre>
     */
    public dev.parley.v1.AppendMessagesResponse appendMessages(dev.parley.v1.AppendMessagesRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getAppendMessagesMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Creates a conversation with the messages of another one, up to the end of a turn. Scope: parley.write.
     * The new conversation has copies of the messages, with the same sequences, and the title, the labels, the
     * instructions and the agent. From then on both change apart: deleting one leaves the other as it is. A call with a
     * request_id can be repeated safely: the conversation is created once, and later calls return it as it is
     * then.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND): also if the request_id has created a conversation that is
     * deleted; ALREADY_EXISTS (CONVERSATION_EXISTS, REQUEST_ID_REUSED); FAILED_PRECONDITION
     * (SEQUENCE_NOT_REACHED, NOT_A_TURN_BOUNDARY).
     * </pre>
     */
    public dev.parley.v1.ForkConversationResponse forkConversation(dev.parley.v1.ForkConversationRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getForkConversationMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Streams all of the caller's conversations, each followed by its messages. Scope: parley.read.
     * Conversations come in the order of their ids, messages in the order of their sequences. What is written
     * during the export may be in it or not; no message arrives without those before it. An export ends after
     * about four minutes, when the caller reads nothing for 30 seconds, and when the worker shuts down. To
     * continue, call again with the last cursor received.
     * Errors: INVALID_ARGUMENT (INVALID_PAGE_TOKEN): cursor is not one of the caller's; RESOURCE_EXHAUSTED
     * (OVERLOADED); UNAVAILABLE (WATCH_EXPIRED, WORKER_DRAINED).
     * </pre>
     */
    public java.util.Iterator<dev.parley.v1.ExportConversationsResponse> exportConversations(
        dev.parley.v1.ExportConversationsRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getExportConversationsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Erases everything that the caller has stored. Scope: parley.erase, which a token must name.
     * Everything that existed when the first call with this request_id began is removed for good: conversations,
     * deleted ones included, with their messages, turns and events, request ids, and usage. Open turns are stopped
     * as by DeleteConversation. From the moment of OK no call finds any of it. What the caller creates afterwards
     * stays; forks that were made of it before OK do not. Call again with the same request_id to see whether the
     * removal is DONE, and its receipt; the receipt is kept, without any personal data.
     * Errors: none besides those of any call.
     * </pre>
     */
    public dev.parley.v1.EraseOwnerResponse eraseOwner(dev.parley.v1.EraseOwnerRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getEraseOwnerMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns what the caller's turns used, by day and, if asked for, by agent and label. Scope: parley.read.
     * Every attempt counts, failed ones and those of deleted conversations included.
     * Errors: none besides those of any call.
     * </pre>
     */
    public dev.parley.v1.GetUsageResponse getUsage(dev.parley.v1.GetUsageRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetUsageMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Streams every turn that ends or begins to wait for its caller, once each: those that the server keeps first
     * (PARLEY_FEED_DAYS, 7 days by default), then new ones as they end. Scope: parley.read; with all_owners
     * parley.observe, which a token must name.
     * Turns come in an order in which a cursor misses none, however many end at the same time: close to that
     * in which they ended. A turn that is run again after it failed is told each time that it ends. What
     * belongs to conversations that are deleted meanwhile is left out. A watch ends after about four minutes,
     * when the caller reads nothing for 30 seconds, and when the worker shuts down. To continue, call again with
     * the last cursor received, on any worker.
     * Errors: INVALID_ARGUMENT (INVALID_PAGE_TOKEN): after_cursor is not one of this feed's; FAILED_PRECONDITION
     * (CURSOR_EXPIRED); RESOURCE_EXHAUSTED (OVERLOADED); UNAVAILABLE (WATCH_EXPIRED, WORKER_DRAINED).
     * </pre>
     */
    public java.util.Iterator<dev.parley.v1.WatchTurnsResponse> watchTurns(
        dev.parley.v1.WatchTurnsRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getWatchTurnsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the agents that a caller can name, by name. Scope: parley.read.
     * Errors: none besides those of any call.
     * </pre>
     */
    public dev.parley.v1.ListAgentsResponse listAgents(dev.parley.v1.ListAgentsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListAgentsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns what a turn's agent was shown and what it did. Scope: parley.read.
     * The messages are read again, those of `context`, whatever the size of windows is by now; how far the turn's own
     * message was shortened follows the present size. Instructions are never returned, only their digest.
     * Errors: NOT_FOUND (TURN_NOT_FOUND).
     * </pre>
     */
    public dev.parley.v1.ExplainTurnResponse explainTurn(dev.parley.v1.ExplainTurnRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getExplainTurnMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Gives a turn's window and message to an agent again and streams what it answers; nothing is stored. Scope:
     * parley.write.
     * Use it to compare agents. The agent is shown what the turn was shown, or, of a turn without an answer, what the
     * next attempt would be shown. No tool is run: a call that the turn itself made, with the same arguments, gets the
     * result that it got then, any other call gets an error that says that this is a rehearsal. The caller's tools are
     * offered again if the turn has ever waited for its caller. The tokens are used and reported, but appear in no
     * usage. An owner that has reached its turns a minute or its tokens a day, together with what it has rehearsed on
     * the same worker, is refused.
     * Errors: NOT_FOUND (TURN_NOT_FOUND); FAILED_PRECONDITION (WINDOW_INCOMPLETE, NO_REHEARSAL, AGENT_REFUSED);
     * DEADLINE_EXCEEDED (AGENT_TIMEOUT, DEADLINE_TOO_SHORT, CALLER_LOST); RESOURCE_EXHAUSTED (TURN_LIMIT_REACHED,
     * BUDGET_EXHAUSTED, OVERLOADED); UNAVAILABLE (AGENT_UNAVAILABLE, WORKER_DRAINED).
     * </pre>
     */
    public java.util.Iterator<dev.parley.v1.RehearseTurnResponse> rehearseTurn(
        dev.parley.v1.RehearseTurnRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getRehearseTurnMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do ListenableFuture-style rpc calls to service ConversationService.
   * <pre>
   * Stores conversations between callers and agents, and runs their turns.
   * Every call must carry the metadata "authorization: Bearer &lt;JWT&gt;". A call reads and writes only what
   * the token's user owns within the token's tenant.
   * A caller whose token has the scope parley.act may act for another user of the same tenant: it names
   * that user in the metadata "parley-user", as percent-encoded UTF-8 in which visible ASCII may stay as it
   * is ("J%C3%BCrgen"). A name has 1 to 255 bytes, is not blank and has no control characters, else the call
   * ends with INVALID_ARGUMENT; without the scope it ends with PERMISSION_DENIED. The token needs the RPC's
   * own scope as well. No other metadata identifies the caller.
   * Besides the errors listed with each RPC, any call may end with UNAUTHENTICATED, PERMISSION_DENIED
   * (SCOPE_MISSING), INVALID_ARGUMENT, RESOURCE_EXHAUSTED (OVERLOADED), UNAVAILABLE (STORE_UNAVAILABLE,
   * KEYS_UNAVAILABLE, WORKER_DRAINED) or INTERNAL. ErrorReason says what a caller should do about each.
   * </pre>
   */
  public static final class ConversationServiceFutureStub
      extends io.grpc.stub.AbstractFutureStub<ConversationServiceFutureStub> {
    private ConversationServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected ConversationServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new ConversationServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Runs one turn and returns the whole answer. Scope: parley.write.
     * OK means that the message and its answer are stored permanently. A call with a request_id can be
     * repeated safely: the turn is made once, and later calls return the same answer.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); ALREADY_EXISTS (REQUEST_ID_REUSED); ABORTED
     * (TURN_IN_PROGRESS, SEQUENCE_MISMATCH, LEASE_LOST); FAILED_PRECONDITION (TURN_SUPERSEDED,
     * ATTEMPTS_EXHAUSTED, AGENT_REFUSED); DEADLINE_EXCEEDED (AGENT_TIMEOUT, DEADLINE_TOO_SHORT);
     * RESOURCE_EXHAUSTED (TURN_LIMIT_REACHED, BUDGET_EXHAUSTED); UNAVAILABLE (AGENT_UNAVAILABLE).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.parley.v1.ChatResponse> chat(
        dev.parley.v1.ChatRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getChatMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Stores a turn and returns at once; a worker runs it without a caller. Scope: parley.write.
     * The turn is TURN_STATE_QUEUED until it begins. Turns of one conversation begin in the order in which they
     * were accepted, one after the other. OK means that the turn is stored permanently and will be run, whatever
     * happens to workers and connections. GetTurn, WatchConversation, WatchTurns and StreamChat with its
     * request_id tell what became of it; CancelTurn before it begins leaves no message behind. A call with a
     * request_id can be repeated safely: it returns the turn as it is then; a turn that has failed is queued
     * again for another attempt, under the conditions under which Chat would run it again.
     * on_busy and on_disconnect are ignored: the turn waits for the conversation, and has no caller to lose.
     * expected_sequence is checked when the turn begins: if it does not hold, the turn fails with
     * SEQUENCE_MISMATCH.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); ALREADY_EXISTS (REQUEST_ID_REUSED); ABORTED (SEQUENCE_MISMATCH):
     * the turn of an earlier call failed with it; FAILED_PRECONDITION (TURN_SUPERSEDED, ATTEMPTS_EXHAUSTED);
     * RESOURCE_EXHAUSTED (TURN_LIMIT_REACHED, BUDGET_EXHAUSTED, QUEUE_FULL).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.parley.v1.StartTurnResponse> startTurn(
        dev.parley.v1.StartTurnRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getStartTurnMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Gives a waiting turn what it waits for, and runs it on once nothing is missing. Scope: parley.write.
     * Each pending call gets a result or an error, or an approval or a denial. If some are still missing, the call
     * returns at once with the rest in pending_calls. Otherwise the turn goes on as with Chat, and the call returns
     * its answer, or that it waits again.
     * A call can be repeated safely: results that were given before are taken note of again, and the call returns
     * what became of the turn. Two calls may give results at the same time; one of them runs the turn, both return
     * its answer. A turn that fails after it was resumed is run again by the same call, or by Chat with its
     * request_id; no tool whose result was stored runs again.
     * Errors: those of Chat; NOT_FOUND (TURN_NOT_FOUND); ALREADY_EXISTS (RESULT_ALREADY_GIVEN);
     * FAILED_PRECONDITION (CALL_NOT_PENDING, TURN_SUPERSEDED, ATTEMPTS_EXHAUSTED).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.parley.v1.ResumeTurnResponse> resumeTurn(
        dev.parley.v1.ResumeTurnRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getResumeTurnMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns the messages of one conversation, page by page. Scope: parley.read.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); FAILED_PRECONDITION (SEQUENCE_NOT_REACHED);
     * INVALID_ARGUMENT (INVALID_PAGE_TOKEN).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.parley.v1.GetHistoryResponse> getHistory(
        dev.parley.v1.GetHistoryRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetHistoryMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Creates an empty conversation. Scope: parley.write.
     * Chat creates conversations as well; use this call to give one labels, instructions or a title before its
     * first message. A call with a request_id can be repeated safely: the conversation is created once, and
     * later calls return it as it is then.
     * Errors: ALREADY_EXISTS (CONVERSATION_EXISTS, REQUEST_ID_REUSED); NOT_FOUND (CONVERSATION_NOT_FOUND): the
     * request_id has created a conversation that is deleted.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.parley.v1.CreateConversationResponse> createConversation(
        dev.parley.v1.CreateConversationRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getCreateConversationMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns one conversation, without its messages. Scope: parley.read.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.parley.v1.GetConversationResponse> getConversation(
        dev.parley.v1.GetConversationRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetConversationMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Changes the title, the labels, the instructions or the agent of a conversation. Scope: parley.write.
     * An open turn keeps its agent. It is told the instructions that the conversation has when an attempt begins: new
     * ones if it goes on after it has waited for its caller, or is run again. The conversation does not move in
     * ListConversations. A call with expected_revision can be repeated safely: it also returns OK if it finds
     * exactly its own change made, at the next revision.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); ABORTED (REVISION_MISMATCH).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.parley.v1.UpdateConversationResponse> updateConversation(
        dev.parley.v1.UpdateConversationRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getUpdateConversationMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Deletes a conversation with everything that was said in it. Scope: parley.write.
     * From the moment of OK no call finds it: a turn that is open is stopped and ends with NOT_FOUND, watches
     * end, and Chat with one of its request ids or with its id, allow_missing included, is refused with
     * NOT_FOUND. What was said is removed from the database shortly afterwards, or after the days that the
     * server keeps deleted conversations; until then UndeleteConversation brings it back.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND), unless allow_missing is set.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.parley.v1.DeleteConversationResponse> deleteConversation(
        dev.parley.v1.DeleteConversationRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getDeleteConversationMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Brings a deleted conversation back, as it was when it was deleted. Scope: parley.write.
     * A turn that was open then is FAILED and can be retried. A conversation that is not deleted is returned
     * as it is, so the call can be repeated safely.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND): it does not exist, or can no longer be brought back.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.parley.v1.UndeleteConversationResponse> undeleteConversation(
        dev.parley.v1.UndeleteConversationRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getUndeleteConversationMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns the caller's conversations, the most recently active first, page by page. Scope: parley.read.
     * A conversation that becomes active while a caller reads pages moves to the front, so later pages may
     * miss it. No conversation appears twice.
     * Errors: INVALID_ARGUMENT (INVALID_PAGE_TOKEN).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.parley.v1.ListConversationsResponse> listConversations(
        dev.parley.v1.ListConversationsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListConversationsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns the state of a turn. Scope: parley.read.
     * Errors: NOT_FOUND (TURN_NOT_FOUND).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.parley.v1.GetTurnResponse> getTurn(
        dev.parley.v1.GetTurnRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetTurnMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Stops a turn on any worker; the text written so far becomes its final answer. Scope: parley.write.
     * The call waits up to 2 seconds for the turn to end and returns the turn's state at that time. A turn
     * that has already ended does not change. Once the request is recorded it holds: if anything ends the
     * turn before it is answered, the turn ends as TURN_STATE_CANCELLED, and the agent does not run again.
     * If the turn's worker died, the answer is what was stored of it: the events of a stream or of a turn of
     * StartTurn, and what stood before a tool call. For a turn of Chat that has called no tool it is empty.
     * Errors: NOT_FOUND (TURN_NOT_FOUND).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.parley.v1.CancelTurnResponse> cancelTurn(
        dev.parley.v1.CancelTurnRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getCancelTurnMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Adds messages to a conversation without running an agent. Scope: parley.write.
     * Use it to bring a history from elsewhere, or to note what happened outside of Parley. The agent sees the
     * messages in the next turn. All of them are stored, one after the other, or none. A call with a request_id
     * can be repeated safely: the messages are added once, and later calls return the same sequences.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND); ALREADY_EXISTS (REQUEST_ID_REUSED); ABORTED
     * (TURN_IN_PROGRESS, SEQUENCE_MISMATCH); DEADLINE_EXCEEDED (DEADLINE_TOO_SHORT), with ON_BUSY_WAIT only.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.parley.v1.AppendMessagesResponse> appendMessages(
        dev.parley.v1.AppendMessagesRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getAppendMessagesMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Creates a conversation with the messages of another one, up to the end of a turn. Scope: parley.write.
     * The new conversation has copies of the messages, with the same sequences, and the title, the labels, the
     * instructions and the agent. From then on both change apart: deleting one leaves the other as it is. A call with a
     * request_id can be repeated safely: the conversation is created once, and later calls return it as it is
     * then.
     * Errors: NOT_FOUND (CONVERSATION_NOT_FOUND): also if the request_id has created a conversation that is
     * deleted; ALREADY_EXISTS (CONVERSATION_EXISTS, REQUEST_ID_REUSED); FAILED_PRECONDITION
     * (SEQUENCE_NOT_REACHED, NOT_A_TURN_BOUNDARY).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.parley.v1.ForkConversationResponse> forkConversation(
        dev.parley.v1.ForkConversationRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getForkConversationMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Erases everything that the caller has stored. Scope: parley.erase, which a token must name.
     * Everything that existed when the first call with this request_id began is removed for good: conversations,
     * deleted ones included, with their messages, turns and events, request ids, and usage. Open turns are stopped
     * as by DeleteConversation. From the moment of OK no call finds any of it. What the caller creates afterwards
     * stays; forks that were made of it before OK do not. Call again with the same request_id to see whether the
     * removal is DONE, and its receipt; the receipt is kept, without any personal data.
     * Errors: none besides those of any call.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.parley.v1.EraseOwnerResponse> eraseOwner(
        dev.parley.v1.EraseOwnerRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getEraseOwnerMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns what the caller's turns used, by day and, if asked for, by agent and label. Scope: parley.read.
     * Every attempt counts, failed ones and those of deleted conversations included.
     * Errors: none besides those of any call.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.parley.v1.GetUsageResponse> getUsage(
        dev.parley.v1.GetUsageRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetUsageMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns the agents that a caller can name, by name. Scope: parley.read.
     * Errors: none besides those of any call.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.parley.v1.ListAgentsResponse> listAgents(
        dev.parley.v1.ListAgentsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListAgentsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns what a turn's agent was shown and what it did. Scope: parley.read.
     * The messages are read again, those of `context`, whatever the size of windows is by now; how far the turn's own
     * message was shortened follows the present size. Instructions are never returned, only their digest.
     * Errors: NOT_FOUND (TURN_NOT_FOUND).
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.parley.v1.ExplainTurnResponse> explainTurn(
        dev.parley.v1.ExplainTurnRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getExplainTurnMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_CHAT = 0;
  private static final int METHODID_STREAM_CHAT = 1;
  private static final int METHODID_START_TURN = 2;
  private static final int METHODID_RESUME_TURN = 3;
  private static final int METHODID_STREAM_RESUME_TURN = 4;
  private static final int METHODID_GET_HISTORY = 5;
  private static final int METHODID_CREATE_CONVERSATION = 6;
  private static final int METHODID_GET_CONVERSATION = 7;
  private static final int METHODID_UPDATE_CONVERSATION = 8;
  private static final int METHODID_DELETE_CONVERSATION = 9;
  private static final int METHODID_UNDELETE_CONVERSATION = 10;
  private static final int METHODID_LIST_CONVERSATIONS = 11;
  private static final int METHODID_GET_TURN = 12;
  private static final int METHODID_CANCEL_TURN = 13;
  private static final int METHODID_WATCH_CONVERSATION = 14;
  private static final int METHODID_APPEND_MESSAGES = 15;
  private static final int METHODID_FORK_CONVERSATION = 16;
  private static final int METHODID_EXPORT_CONVERSATIONS = 17;
  private static final int METHODID_ERASE_OWNER = 18;
  private static final int METHODID_GET_USAGE = 19;
  private static final int METHODID_WATCH_TURNS = 20;
  private static final int METHODID_LIST_AGENTS = 21;
  private static final int METHODID_EXPLAIN_TURN = 22;
  private static final int METHODID_REHEARSE_TURN = 23;

  private static final class MethodHandlers<Req, Resp> implements
      io.grpc.stub.ServerCalls.UnaryMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.ServerStreamingMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.ClientStreamingMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.BidiStreamingMethod<Req, Resp> {
    private final AsyncService serviceImpl;
    private final int methodId;

    MethodHandlers(AsyncService serviceImpl, int methodId) {
      this.serviceImpl = serviceImpl;
      this.methodId = methodId;
    }

    @java.lang.Override
    @java.lang.SuppressWarnings("unchecked")
    public void invoke(Req request, io.grpc.stub.StreamObserver<Resp> responseObserver) {
      switch (methodId) {
        case METHODID_CHAT:
          serviceImpl.chat((dev.parley.v1.ChatRequest) request,
              (io.grpc.stub.StreamObserver<dev.parley.v1.ChatResponse>) responseObserver);
          break;
        case METHODID_STREAM_CHAT:
          serviceImpl.streamChat((dev.parley.v1.StreamChatRequest) request,
              (io.grpc.stub.StreamObserver<dev.parley.v1.StreamChatResponse>) responseObserver);
          break;
        case METHODID_START_TURN:
          serviceImpl.startTurn((dev.parley.v1.StartTurnRequest) request,
              (io.grpc.stub.StreamObserver<dev.parley.v1.StartTurnResponse>) responseObserver);
          break;
        case METHODID_RESUME_TURN:
          serviceImpl.resumeTurn((dev.parley.v1.ResumeTurnRequest) request,
              (io.grpc.stub.StreamObserver<dev.parley.v1.ResumeTurnResponse>) responseObserver);
          break;
        case METHODID_STREAM_RESUME_TURN:
          serviceImpl.streamResumeTurn((dev.parley.v1.StreamResumeTurnRequest) request,
              (io.grpc.stub.StreamObserver<dev.parley.v1.StreamResumeTurnResponse>) responseObserver);
          break;
        case METHODID_GET_HISTORY:
          serviceImpl.getHistory((dev.parley.v1.GetHistoryRequest) request,
              (io.grpc.stub.StreamObserver<dev.parley.v1.GetHistoryResponse>) responseObserver);
          break;
        case METHODID_CREATE_CONVERSATION:
          serviceImpl.createConversation((dev.parley.v1.CreateConversationRequest) request,
              (io.grpc.stub.StreamObserver<dev.parley.v1.CreateConversationResponse>) responseObserver);
          break;
        case METHODID_GET_CONVERSATION:
          serviceImpl.getConversation((dev.parley.v1.GetConversationRequest) request,
              (io.grpc.stub.StreamObserver<dev.parley.v1.GetConversationResponse>) responseObserver);
          break;
        case METHODID_UPDATE_CONVERSATION:
          serviceImpl.updateConversation((dev.parley.v1.UpdateConversationRequest) request,
              (io.grpc.stub.StreamObserver<dev.parley.v1.UpdateConversationResponse>) responseObserver);
          break;
        case METHODID_DELETE_CONVERSATION:
          serviceImpl.deleteConversation((dev.parley.v1.DeleteConversationRequest) request,
              (io.grpc.stub.StreamObserver<dev.parley.v1.DeleteConversationResponse>) responseObserver);
          break;
        case METHODID_UNDELETE_CONVERSATION:
          serviceImpl.undeleteConversation((dev.parley.v1.UndeleteConversationRequest) request,
              (io.grpc.stub.StreamObserver<dev.parley.v1.UndeleteConversationResponse>) responseObserver);
          break;
        case METHODID_LIST_CONVERSATIONS:
          serviceImpl.listConversations((dev.parley.v1.ListConversationsRequest) request,
              (io.grpc.stub.StreamObserver<dev.parley.v1.ListConversationsResponse>) responseObserver);
          break;
        case METHODID_GET_TURN:
          serviceImpl.getTurn((dev.parley.v1.GetTurnRequest) request,
              (io.grpc.stub.StreamObserver<dev.parley.v1.GetTurnResponse>) responseObserver);
          break;
        case METHODID_CANCEL_TURN:
          serviceImpl.cancelTurn((dev.parley.v1.CancelTurnRequest) request,
              (io.grpc.stub.StreamObserver<dev.parley.v1.CancelTurnResponse>) responseObserver);
          break;
        case METHODID_WATCH_CONVERSATION:
          serviceImpl.watchConversation((dev.parley.v1.WatchConversationRequest) request,
              (io.grpc.stub.StreamObserver<dev.parley.v1.WatchConversationResponse>) responseObserver);
          break;
        case METHODID_APPEND_MESSAGES:
          serviceImpl.appendMessages((dev.parley.v1.AppendMessagesRequest) request,
              (io.grpc.stub.StreamObserver<dev.parley.v1.AppendMessagesResponse>) responseObserver);
          break;
        case METHODID_FORK_CONVERSATION:
          serviceImpl.forkConversation((dev.parley.v1.ForkConversationRequest) request,
              (io.grpc.stub.StreamObserver<dev.parley.v1.ForkConversationResponse>) responseObserver);
          break;
        case METHODID_EXPORT_CONVERSATIONS:
          serviceImpl.exportConversations((dev.parley.v1.ExportConversationsRequest) request,
              (io.grpc.stub.StreamObserver<dev.parley.v1.ExportConversationsResponse>) responseObserver);
          break;
        case METHODID_ERASE_OWNER:
          serviceImpl.eraseOwner((dev.parley.v1.EraseOwnerRequest) request,
              (io.grpc.stub.StreamObserver<dev.parley.v1.EraseOwnerResponse>) responseObserver);
          break;
        case METHODID_GET_USAGE:
          serviceImpl.getUsage((dev.parley.v1.GetUsageRequest) request,
              (io.grpc.stub.StreamObserver<dev.parley.v1.GetUsageResponse>) responseObserver);
          break;
        case METHODID_WATCH_TURNS:
          serviceImpl.watchTurns((dev.parley.v1.WatchTurnsRequest) request,
              (io.grpc.stub.StreamObserver<dev.parley.v1.WatchTurnsResponse>) responseObserver);
          break;
        case METHODID_LIST_AGENTS:
          serviceImpl.listAgents((dev.parley.v1.ListAgentsRequest) request,
              (io.grpc.stub.StreamObserver<dev.parley.v1.ListAgentsResponse>) responseObserver);
          break;
        case METHODID_EXPLAIN_TURN:
          serviceImpl.explainTurn((dev.parley.v1.ExplainTurnRequest) request,
              (io.grpc.stub.StreamObserver<dev.parley.v1.ExplainTurnResponse>) responseObserver);
          break;
        case METHODID_REHEARSE_TURN:
          serviceImpl.rehearseTurn((dev.parley.v1.RehearseTurnRequest) request,
              (io.grpc.stub.StreamObserver<dev.parley.v1.RehearseTurnResponse>) responseObserver);
          break;
        default:
          throw new AssertionError();
      }
    }

    @java.lang.Override
    @java.lang.SuppressWarnings("unchecked")
    public io.grpc.stub.StreamObserver<Req> invoke(
        io.grpc.stub.StreamObserver<Resp> responseObserver) {
      switch (methodId) {
        default:
          throw new AssertionError();
      }
    }
  }

  public static final io.grpc.ServerServiceDefinition bindService(AsyncService service) {
    return io.grpc.ServerServiceDefinition.builder(getServiceDescriptor())
        .addMethod(
          getChatMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.parley.v1.ChatRequest,
              dev.parley.v1.ChatResponse>(
                service, METHODID_CHAT)))
        .addMethod(
          getStreamChatMethod(),
          io.grpc.stub.ServerCalls.asyncServerStreamingCall(
            new MethodHandlers<
              dev.parley.v1.StreamChatRequest,
              dev.parley.v1.StreamChatResponse>(
                service, METHODID_STREAM_CHAT)))
        .addMethod(
          getStartTurnMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.parley.v1.StartTurnRequest,
              dev.parley.v1.StartTurnResponse>(
                service, METHODID_START_TURN)))
        .addMethod(
          getResumeTurnMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.parley.v1.ResumeTurnRequest,
              dev.parley.v1.ResumeTurnResponse>(
                service, METHODID_RESUME_TURN)))
        .addMethod(
          getStreamResumeTurnMethod(),
          io.grpc.stub.ServerCalls.asyncServerStreamingCall(
            new MethodHandlers<
              dev.parley.v1.StreamResumeTurnRequest,
              dev.parley.v1.StreamResumeTurnResponse>(
                service, METHODID_STREAM_RESUME_TURN)))
        .addMethod(
          getGetHistoryMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.parley.v1.GetHistoryRequest,
              dev.parley.v1.GetHistoryResponse>(
                service, METHODID_GET_HISTORY)))
        .addMethod(
          getCreateConversationMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.parley.v1.CreateConversationRequest,
              dev.parley.v1.CreateConversationResponse>(
                service, METHODID_CREATE_CONVERSATION)))
        .addMethod(
          getGetConversationMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.parley.v1.GetConversationRequest,
              dev.parley.v1.GetConversationResponse>(
                service, METHODID_GET_CONVERSATION)))
        .addMethod(
          getUpdateConversationMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.parley.v1.UpdateConversationRequest,
              dev.parley.v1.UpdateConversationResponse>(
                service, METHODID_UPDATE_CONVERSATION)))
        .addMethod(
          getDeleteConversationMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.parley.v1.DeleteConversationRequest,
              dev.parley.v1.DeleteConversationResponse>(
                service, METHODID_DELETE_CONVERSATION)))
        .addMethod(
          getUndeleteConversationMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.parley.v1.UndeleteConversationRequest,
              dev.parley.v1.UndeleteConversationResponse>(
                service, METHODID_UNDELETE_CONVERSATION)))
        .addMethod(
          getListConversationsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.parley.v1.ListConversationsRequest,
              dev.parley.v1.ListConversationsResponse>(
                service, METHODID_LIST_CONVERSATIONS)))
        .addMethod(
          getGetTurnMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.parley.v1.GetTurnRequest,
              dev.parley.v1.GetTurnResponse>(
                service, METHODID_GET_TURN)))
        .addMethod(
          getCancelTurnMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.parley.v1.CancelTurnRequest,
              dev.parley.v1.CancelTurnResponse>(
                service, METHODID_CANCEL_TURN)))
        .addMethod(
          getWatchConversationMethod(),
          io.grpc.stub.ServerCalls.asyncServerStreamingCall(
            new MethodHandlers<
              dev.parley.v1.WatchConversationRequest,
              dev.parley.v1.WatchConversationResponse>(
                service, METHODID_WATCH_CONVERSATION)))
        .addMethod(
          getAppendMessagesMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.parley.v1.AppendMessagesRequest,
              dev.parley.v1.AppendMessagesResponse>(
                service, METHODID_APPEND_MESSAGES)))
        .addMethod(
          getForkConversationMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.parley.v1.ForkConversationRequest,
              dev.parley.v1.ForkConversationResponse>(
                service, METHODID_FORK_CONVERSATION)))
        .addMethod(
          getExportConversationsMethod(),
          io.grpc.stub.ServerCalls.asyncServerStreamingCall(
            new MethodHandlers<
              dev.parley.v1.ExportConversationsRequest,
              dev.parley.v1.ExportConversationsResponse>(
                service, METHODID_EXPORT_CONVERSATIONS)))
        .addMethod(
          getEraseOwnerMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.parley.v1.EraseOwnerRequest,
              dev.parley.v1.EraseOwnerResponse>(
                service, METHODID_ERASE_OWNER)))
        .addMethod(
          getGetUsageMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.parley.v1.GetUsageRequest,
              dev.parley.v1.GetUsageResponse>(
                service, METHODID_GET_USAGE)))
        .addMethod(
          getWatchTurnsMethod(),
          io.grpc.stub.ServerCalls.asyncServerStreamingCall(
            new MethodHandlers<
              dev.parley.v1.WatchTurnsRequest,
              dev.parley.v1.WatchTurnsResponse>(
                service, METHODID_WATCH_TURNS)))
        .addMethod(
          getListAgentsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.parley.v1.ListAgentsRequest,
              dev.parley.v1.ListAgentsResponse>(
                service, METHODID_LIST_AGENTS)))
        .addMethod(
          getExplainTurnMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.parley.v1.ExplainTurnRequest,
              dev.parley.v1.ExplainTurnResponse>(
                service, METHODID_EXPLAIN_TURN)))
        .addMethod(
          getRehearseTurnMethod(),
          io.grpc.stub.ServerCalls.asyncServerStreamingCall(
            new MethodHandlers<
              dev.parley.v1.RehearseTurnRequest,
              dev.parley.v1.RehearseTurnResponse>(
                service, METHODID_REHEARSE_TURN)))
        .build();
  }

  private static abstract class ConversationServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    ConversationServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return dev.parley.v1.ConversationServiceOuterClass.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("ConversationService");
    }
  }

  private static final class ConversationServiceFileDescriptorSupplier
      extends ConversationServiceBaseDescriptorSupplier {
    ConversationServiceFileDescriptorSupplier() {}
  }

  private static final class ConversationServiceMethodDescriptorSupplier
      extends ConversationServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final java.lang.String methodName;

    ConversationServiceMethodDescriptorSupplier(java.lang.String methodName) {
      this.methodName = methodName;
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.MethodDescriptor getMethodDescriptor() {
      return getServiceDescriptor().findMethodByName(methodName);
    }
  }

  private static volatile io.grpc.ServiceDescriptor serviceDescriptor;

  public static io.grpc.ServiceDescriptor getServiceDescriptor() {
    io.grpc.ServiceDescriptor result = serviceDescriptor;
    if (result == null) {
      synchronized (ConversationServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new ConversationServiceFileDescriptorSupplier())
              .addMethod(getChatMethod())
              .addMethod(getStreamChatMethod())
              .addMethod(getStartTurnMethod())
              .addMethod(getResumeTurnMethod())
              .addMethod(getStreamResumeTurnMethod())
              .addMethod(getGetHistoryMethod())
              .addMethod(getCreateConversationMethod())
              .addMethod(getGetConversationMethod())
              .addMethod(getUpdateConversationMethod())
              .addMethod(getDeleteConversationMethod())
              .addMethod(getUndeleteConversationMethod())
              .addMethod(getListConversationsMethod())
              .addMethod(getGetTurnMethod())
              .addMethod(getCancelTurnMethod())
              .addMethod(getWatchConversationMethod())
              .addMethod(getAppendMessagesMethod())
              .addMethod(getForkConversationMethod())
              .addMethod(getExportConversationsMethod())
              .addMethod(getEraseOwnerMethod())
              .addMethod(getGetUsageMethod())
              .addMethod(getWatchTurnsMethod())
              .addMethod(getListAgentsMethod())
              .addMethod(getExplainTurnMethod())
              .addMethod(getRehearseTurnMethod())
              .build();
        }
      }
    }
    return result;
  }
}
