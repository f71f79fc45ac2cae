package parley

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
)

// What holds for a call whose context has no deadline.
const (
	DefaultChatTimeout = 120 * time.Second // A turn or a rehearsal: waits and retries included.
	// A read, each page of a list, StartTurn, CancelTurn, a change of a conversation.
	DefaultReadTimeout = 10 * time.Second
	// What may write much at once: AppendMessages, ForkConversation, EraseOwner.
	DefaultChangeTimeout = 60 * time.Second
)

// MinKeepalive is how long a call is silent until the client pings the server, unless [WithKeepalive] says longer. A server
// closes the connections of clients that ping more often than every 20 seconds, unless it is set otherwise.
const MinKeepalive = 30 * time.Second

// Option is a choice about a [Client].
type Option func(*settings) error

type settings struct {
	tokens      TokenSource
	chatTimeout time.Duration
	readTimeout time.Duration
	onRetry     func(context.Context, *Error)

	tls         *tls.Config
	isPlaintext bool
	keepalive   time.Duration
	dialOptions []grpc.DialOption
	// wayOptions names the last option about the way to the server.
	wayOptions []string
}

// WithToken makes every call carry this JWT.
func WithToken(token string) Option { return WithTokenSource(StaticToken(token)) }

// WithTokenSource makes every call carry the token that the source returns then: a [TokenFunc] or a
// [TokenFile].
func WithTokenSource(source TokenSource) Option {
	return func(s *settings) error {
		s.tokens = source
		return nil
	}
}

// WithChatTimeout sets what holds for a turn (Chat, Stream, ResumeTurn and what is made of them) and for RehearseTurn when
// the context has no deadline, instead of [DefaultChatTimeout].
func WithChatTimeout(timeout time.Duration) Option {
	return func(s *settings) error {
		s.chatTimeout = timeout
		return positive("the timeout of a chat", timeout)
	}
}

// WithReadTimeout sets what holds for reads, StartTurn, CancelTurn and changes of a conversation when the context has no
// deadline, instead of [DefaultReadTimeout].
func WithReadTimeout(timeout time.Duration) Option {
	return func(s *settings) error {
		s.readTimeout = timeout
		return positive("the timeout of a read", timeout)
	}
}

// WithRetryHook calls the function with every error after which the client calls again by itself, such
// as to log it. gRPC's own retries, of what ends UNAVAILABLE before anything has come, are not told.
func WithRetryHook(hook func(ctx context.Context, err *Error)) Option {
	return func(s *settings) error {
		s.onRetry = hook
		return nil
	}
}

// WithTLS sets how the server is trusted and what the client shows of itself. Without it, and without
// the options that follow: TLS with the system's roots, but plaintext to this machine. They change this
// configuration, and so have to come after it.
func WithTLS(config *tls.Config) Option {
	return func(s *settings) error {
		if s.tls != nil {
			return errors.New("WithTLS has to come before the other options about TLS: it would undo them")
		}
		s.ownTLS("WithTLS")
		if config == nil {
			return errors.New("WithTLS needs a configuration")
		}
		s.tls = config.Clone()
		return nil
	}
}

// WithCAFile trusts the certificates in this PEM file, instead of the system's roots.
func WithCAFile(path string) Option {
	return func(s *settings) error {
		config := s.ownTLS("WithCAFile")
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(content) {
			return fmt.Errorf("%s holds no certificate in PEM", path)
		}
		return nil
	}
}

// WithClientCertificate shows the server this certificate. The files are read again for every new
// connection, so that a renewed one is used.
func WithClientCertificate(certFile, keyFile string) Option {
	return func(s *settings) error {
		config := s.ownTLS("WithClientCertificate")
		read := func() (*tls.Certificate, error) {
			certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
			return &certificate, err
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return read() }
		_, err := read()
		return err
	}
}

// WithPlaintext uses no TLS, wherever the server is. An attacker who reads a token on the way can use it:
// this is for a mesh, or a proxy beside this process, that brings TLS itself.
func WithPlaintext() Option {
	return func(s *settings) error {
		s.isPlaintext = true
		s.wayOptions = append(s.wayOptions, "WithPlaintext")
		return nil
	}
}

// WithKeepalive pings the server when a call under way has been silent for so long, at least [MinKeepalive], which is
// also the default. If the server does not answer a ping within 10 seconds, the connection is lost.
func WithKeepalive(interval time.Duration) Option {
	return func(s *settings) error {
		s.wayOptions = append(s.wayOptions, "WithKeepalive")
		s.keepalive = interval
		if interval < MinKeepalive {
			return fmt.Errorf("a keepalive every %v is more than a server takes: at least %v", interval, MinKeepalive)
		}
		return nil
	}
}

// WithDialOptions adds gRPC's own, such as interceptors or a stats handler for tracing. They come last,
// and so go before the client's.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) error {
		s.wayOptions = append(s.wayOptions, "WithDialOptions")
		s.dialOptions = append(s.dialOptions, options...)
		return nil
	}
}

// ownTLS returns the TLS configuration to change.
func (s *settings) ownTLS(option string) *tls.Config {
	s.wayOptions = append(s.wayOptions, option)
	if s.tls == nil {
		s.tls = &tls.Config{}
	}
	return s.tls
}

func chosen(options []Option) (*settings, error) {
	s := &settings{chatTimeout: DefaultChatTimeout, readTimeout: DefaultReadTimeout, keepalive: MinKeepalive}
	for _, option := range options {
		if err := option(s); err != nil {
			return nil, fmt.Errorf("parley: %w", err)
		}
	}
	if s.isPlaintext && s.tls != nil {
		return nil, errors.New("parley: WithPlaintext and TLS were both asked for: choose one")
	}
	return s, nil
}

func positive(what string, timeout time.Duration) error {
	if timeout <= 0 {
		return fmt.Errorf("%s is %v, and has to be more than 0", what, timeout)
	}
	return nil
}
