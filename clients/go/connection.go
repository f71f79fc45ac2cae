package parley

import (
	"crypto/tls"
	_ "embed" // for the service config
	"net"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// ServiceConfig is gRPC's service config that all of Parley's clients share: round robin, and retries of
// what ends UNAVAILABLE. A connection of your own needs it, by [grpc.WithDefaultServiceConfig], for its
// calls to be retried.
//
//go:embed service_config.json
var ServiceConfig string

const reconnectTimeout = 5 * time.Second

// keepaliveTimeout is how long the server may take to answer a ping.
const keepaliveTimeout = 10 * time.Second

// retryBufferBytes is the largest request that gRPC repeats, by itself only one of up to 256 KiB. So much is the most
// that a server can be set to take.
const retryBufferBytes = 64 << 20

// connected opens nothing yet: gRPC connects at the first call.
func connected(address string, s *settings) (*grpc.ClientConn, error) {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(credentialsFor(address, s)),
		grpc.WithDefaultServiceConfig(ServiceConfig),
		// The policy is ours: DNS is not asked for another one.
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxRetryRPCBufferSize(retryBufferBytes)),
		// A server that restarts is found again in good time; gRPC's own waits grow to two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectTimeout,
			},
			MinConnectTimeout: reconnectTimeout,
		}),
		// A server that vanished without a word is noticed while a call is under way.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: s.keepalive, Timeout: keepaliveTimeout}),
	}
	if isDirect(address, s) {
		options = append(options, grpc.WithNoProxy())
	}
	return grpc.NewClient(address, append(options, s.dialOptions...)...)
}

// credentialsFor decides on TLS. An attacker who reads a token can use it, so plaintext to another machine
// has to be asked for.
func credentialsFor(address string, s *settings) credentials.TransportCredentials {
	switch {
	case s.tls != nil:
		return credentials.NewTLS(s.tls)
	case s.isPlaintext || isOnThisMachine(address):
		return insecure.NewCredentials()
	default:
		return credentials.NewTLS(&tls.Config{})
	}
}

// isDirect says whether no proxy that a variable names (HTTPS_PROXY) may stand in between: it would see
// the token of a plaintext call, and has no business on this machine.
func isDirect(address string, s *settings) bool {
	return s.isPlaintext || isOnThisMachine(address)
}

// isOnThisMachine says whether an address, host:port or a gRPC target, leads to this machine only.
func isOnThisMachine(address string) bool {
	scheme, rest, hasScheme := strings.Cut(address, ":")
	switch {
	case hasScheme && (scheme == "unix" || scheme == "unix-abstract"):
		return true
	case hasScheme && (scheme == "dns" || scheme == "passthrough"):
		address = rest[strings.LastIndex(rest, "/")+1:]
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address // without a port
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.IsLoopback()
}
