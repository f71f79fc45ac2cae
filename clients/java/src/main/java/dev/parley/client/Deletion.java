package dev.parley.client;

import dev.parley.client.ParleyException.ConversationNotFound;
import dev.parley.v1.DeleteConversationResponse;
import java.util.Optional;

/** How the deletion of a conversation ends: a lost try may have made it, and then the next one finds nothing. */
final class Deletion implements UnaryCall.Outcome<DeleteConversationResponse, DeleteConversationResponse> {

    @Override
    public DeleteConversationResponse of(DeleteConversationResponse response) {
        return response;
    }

    @Override
    public Optional<DeleteConversationResponse> afterLoss(ParleyException error) {
        return error instanceof ConversationNotFound
                ? Optional.of(DeleteConversationResponse.getDefaultInstance())
                : Optional.empty();
    }
}
