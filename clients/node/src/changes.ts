/** What the client changes: conversations, and everything that an owner has. */

import { Agents } from "./agents.js";
import * as calls from "./calls.js";
import type { Created, Forked } from "./events.js";
import type { Conversation } from "./gen/parley/v1/conversation.js";
import {
  type AppendMessagesResponse,
  type DeleteConversationResponse,
  type EraseOwnerResponse,
  ErasureState,
} from "./gen/parley/v1/conversation_service.js";
import type {
  AppendOptions,
  CallOptions,
  CreateOptions,
  DeleteOptions,
  EraseOptions,
  ForkOptions,
  NewMessage,
  UpdateOptions,
} from "./options.js";
import { held } from "./reads.js";

/** The calls that change conversations without running an agent. */
export class Changes extends Agents {
  /**
   * Create an empty conversation, to give it labels, instructions, a title or an agent before its first message.
   *
   * `chat` creates conversations as well. There is one conversation for one request id or conversation
   * id, however often it is sent; `replayed` is true if an earlier call had created it.
   *
   * @throws ConversationExists, RequestIdReused, AgentUnknown, InvalidRequest, Unavailable, DeadlineExceeded.
   */
  async createConversation(options: CreateOptions = {}): Promise<Created> {
    const call = calls.createConversation(options);
    const response = await this.connection.made(call, options.signal);
    return { ...response, conversation: held(response.conversation, "conversation") };
  }

  /**
   * Change the title, the labels or the instructions of a conversation; return it as it is then.
   *
   * What is not given stays as it is, and an empty value clears. A turn that is open keeps the
   * instructions and the agent that it began with. With `expectedRevision` the change is made once: a retry that
   * finds exactly its own change, at the next revision, returns the conversation. Without, a retry
   * after a lost answer makes the change again.
   *
   * @throws ConversationNotFound, RevisionMismatch, AgentUnknown, InvalidRequest, Unavailable, DeadlineExceeded.
   */
  async updateConversation(conversationId: string, options: UpdateOptions): Promise<Conversation> {
    const call = calls.updateConversation(conversationId, options);
    const response = await this.connection.made(call, options.signal);
    return held(response.conversation, "conversation");
  }

  /**
   * Delete a conversation with everything that was said in it.
   *
   * An open turn is stopped, and watches end. Until `purgeTime`, `undeleteConversation` brings it back;
   * undefined: nothing does. If a try was lost and a later one finds no conversation, the call has done
   * its work: it returns without a `purgeTime`. Over several calls, `allowMissing` does the same.
   *
   * @throws ConversationNotFound (unless `allowMissing`), InvalidRequest, Unavailable, DeadlineExceeded.
   */
  async deleteConversation(
    conversationId: string,
    options: DeleteOptions = {},
  ): Promise<DeleteConversationResponse> {
    const call = calls.deleteConversation(conversationId, options);
    return this.connection.made(call, options.signal);
  }

  /**
   * Bring a deleted conversation back, as it was when it was deleted; return it.
   *
   * A turn that was open then is failed and can be retried. A conversation that is not deleted is
   * returned as it is.
   *
   * @throws ConversationNotFound (there is none, or it can no longer be brought back), InvalidRequest,
   *   Unavailable, DeadlineExceeded.
   */
  async undeleteConversation(
    conversationId: string,
    options: CallOptions = {},
  ): Promise<Conversation> {
    const call = calls.undeleteConversation(conversationId, options);
    const response = await this.connection.made(call, options.signal);
    return held(response.conversation, "conversation");
  }

  /**
   * Add messages to a conversation without running an agent: all of them, or none.
   *
   * The agent sees them in the next turn. They are added once for one request id, however often it is
   * sent; `replayed` is true if an earlier call had added them.
   *
   * @param messages 1 to 1,000, in order, with at most 1 MiB of texts; those of another conversation as they are.
   * @throws ConversationNotFound (unless `allowMissing`), TurnInProgress, SequenceMismatch,
   *   RequestIdReused, InvalidRequest, Unavailable, DeadlineExceeded.
   */
  async appendMessages(
    conversationId: string,
    messages: readonly NewMessage[],
    options: AppendOptions = {},
  ): Promise<AppendMessagesResponse> {
    const call = calls.appendMessages(conversationId, messages, options);
    return this.connection.made(call, options.signal);
  }

  /**
   * Create a conversation with the messages of another one, up to the end of a turn.
   *
   * It has the same title, labels, instructions and agent; from then on both change apart. There is one fork for
   * one request id, however often it is sent; `replayed` is true if an earlier call had created it.
   *
   * @throws ConversationNotFound, ConversationExists, NotATurnBoundary, SequenceNotReached,
   *   RequestIdReused, InvalidRequest, Unavailable, DeadlineExceeded.
   */
  async forkConversation(conversationId: string, options: ForkOptions = {}): Promise<Forked> {
    const call = calls.forkConversation(conversationId, options);
    const response = await this.connection.made(call, options.signal);
    return { ...response, conversation: held(response.conversation, "conversation") };
  }

  /**
   * Erase everything that the caller has stored; the token has to name the scope `parley.erase`.
   *
   * When this returns, no call finds any of it. `state` says whether rows are still being removed: with
   * `wait` this returns when none is left; without, call again with the same request id to see it.
   *
   * @param requestId the erasure's key, 1 to 128 of [A-Za-z0-9._:-]. Another one begins another erasure, so
   *   store it before the first call. It is kept with the receipt: no personal data.
   * @throws ScopeMissing, InvalidRequest, Unavailable, DeadlineExceeded.
   */
  async eraseOwner(requestId: string, options: EraseOptions = {}): Promise<EraseOwnerResponse> {
    const call = calls.eraseOwner(requestId, options);
    const connection = this.connection.whileOpen();
    for (;;) {
      const receipt = await connection.made(call, options.signal);
      if (!options.wait || receipt.state === ErasureState.DONE) return receipt;
      await connection.rested(calls.ERASURE_PAUSE_MS, options.signal, requestId);
    }
  }
}
