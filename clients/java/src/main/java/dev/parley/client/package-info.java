/**
 * The client of Parley, a service that keeps conversations with language models: {@link
 * dev.parley.client.ParleyClient} for a caller that waits, {@link dev.parley.client.AsyncParleyClient} for one that
 * does not. What they answer are the messages of the contract, {@code dev.parley.v1}.
 */
package dev.parley.client;
