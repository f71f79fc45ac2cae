package parley_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"

	parley "parley.dev/go"
)

func TestAServerWithACertificateIsTrustedThroughItsCA(t *testing.T) {
	t.Parallel()
	ours := anAuthority(t)
	server := ours.server(t, tls.NoClientCert)
	trusting := aClient(t, server.address, parley.WithCAFile(ours.file))
	must(trusting.Chat(t.Context(), &parley.ChatRequest{Message: "hello"}))(t)

	configured := aClient(t, server.address, parley.WithTLS(&tls.Config{RootCAs: ours.pool}))
	must(configured.Chat(t.Context(), &parley.ChatRequest{Message: "hello"}))(t)

	for _, options := range [][]parley.Option{
		{parley.WithCAFile(anAuthority(t).file)}, // somebody else's
		{parley.WithTLS(&tls.Config{})},          // the system's roots
		{},                                       // plaintext
	} {
		_, err := aClient(t, server.address, options...).GetTurn(t.Context(), &parley.GetTurnRequest{RequestId: "r"})
		var failure *parley.Error
		want(t, true, errors.As(err, &failure))
		want(t, codes.Unavailable, failure.Code)
	}
	want(t, 2, len(server.asked()))
}

func TestAClientShowsItsCertificate(t *testing.T) {
	t.Parallel()
	ours := anAuthority(t)
	server := ours.server(t, tls.RequireAndVerifyClientCert)
	certFile, keyFile := ours.certificate(t, "client")
	client := aClient(t, server.address,
		parley.WithCAFile(ours.file), parley.WithClientCertificate(certFile, keyFile))
	must(client.Chat(t.Context(), &parley.ChatRequest{Message: "hello"}))(t)

	_, err := aClient(t, server.address, parley.WithCAFile(ours.file)).Chat(t.Context(), &parley.ChatRequest{Message: "x"})
	var failure *parley.Error
	want(t, true, errors.As(err, &failure) && failure.Code == codes.Unavailable)
	want(t, 1, len(server.asked()))
}

// Whoever reads a token can use it: TLS is the default, plaintext has to be asked for.
func TestPlaintextToAnotherMachineHasToBeAskedFor(t *testing.T) {
	listener := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer listener.Close()
	dial := grpc.WithContextDialer(dialing(listener.Addr().String()))
	for expected, options := range map[byte][]parley.Option{
		0x16: {parley.WithDialOptions(dial)}, // a TLS handshake
		'P':  {parley.WithDialOptions(dial), parley.WithPlaintext()},
	} {
		client := aClient(t, "passthrough:///parley.internal:50051", options...)
		go client.Chat(t.Context(), &parley.ChatRequest{Message: "hello"})
		conn := must(listener.Accept())(t)
		first := make([]byte, 1)
		must(conn.Read(first))(t)
		want(t, expected, first[0])
		want(t, nil, client.Close())
		conn.Close()
	}
}

func TestOptionsThatCannotBeAreRefusedAtOnce(t *testing.T) {
	folder := t.TempDir()
	empty := filepath.Join(folder, "empty.pem")
	want(t, nil, os.WriteFile(empty, nil, 0o600))
	for expected, options := range map[string][]parley.Option{
		"choose one":               {parley.WithPlaintext(), parley.WithTLS(&tls.Config{})},
		"holds no certificate":     {parley.WithCAFile(empty)},
		"no such file":             {parley.WithCAFile(filepath.Join(folder, "missing.pem"))},
		"failed to find any PEM":   {parley.WithClientCertificate(empty, empty)},
		"at least 30s":             {parley.WithKeepalive(10 * time.Second)},
		"has to be more than 0":    {parley.WithChatTimeout(0)},
		"WithTLS needs a config":   {parley.WithTLS(nil)},
		"WithTLS has to come":      {parley.WithCAFile(anAuthority(t).file), parley.WithTLS(&tls.Config{})},
		"the timeout of a read is": {parley.WithReadTimeout(-1)},
	} {
		_, err := parley.New(parley.DefaultAddress, options...)
		if err == nil || !strings.Contains(err.Error(), expected) {
			t.Errorf("expected %q, observed %v", expected, err)
		}
	}
	_, err := parley.New("")
	want(t, true, strings.Contains(err.Error(), "no address"))
	conn := must(grpc.NewClient("127.0.0.1:1", grpc.WithTransportCredentials(credentials.NewTLS(nil))))(t)
	defer conn.Close()
	_, err = parley.NewFromConn(conn, parley.WithPlaintext())
	want(t, true, strings.Contains(err.Error(), "WithPlaintext: too late"))
}

// authority is a CA whose certificates are real.
type authority struct {
	root *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
	file string
}

func anAuthority(t *testing.T) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tests"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	der := must(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))(t)
	a := &authority{key: key, pool: x509.NewCertPool(), file: filepath.Join(t.TempDir(), "ca.pem")}
	a.root = must(x509.ParseCertificate(der))(t)
	a.pool.AddCert(a.root)
	write(t, a.file, "CERTIFICATE", der)
	return a
}

// certificate signs one for this machine, and returns the files that it and its key are in.
func (a *authority) certificate(t *testing.T, name string) (certFile, keyFile string) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	der := must(x509.CreateCertificate(rand.Reader, template, a.root, &key.PublicKey, a.key))(t)
	folder := t.TempDir()
	certFile, keyFile = filepath.Join(folder, name+".pem"), filepath.Join(folder, name+"-key.pem")
	write(t, certFile, "CERTIFICATE", der)
	write(t, keyFile, "PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key))(t))
	return certFile, keyFile
}

// server is a script with a certificate.
func (a *authority) server(t *testing.T, clients tls.ClientAuthType) *script {
	t.Helper()
	certificate := must(tls.LoadX509KeyPair(a.certificate(t, "server")))(t)
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: clients, ClientCAs: a.pool}
	return aScriptWith(t, []grpc.ServerOption{grpc.Creds(credentials.NewTLS(config))}, sends(anAnswer("HELLO")))
}

func write(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	want(t, nil, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}
