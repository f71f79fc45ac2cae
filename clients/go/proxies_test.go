package parley_test

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	parley "parley.dev/go"
)

const proxiedAddress = "PARLEY_PROXIED_ADDRESS"

// A proxy that HTTPS_PROXY names would see the token of a plaintext call. Go reads the variable once in the
// life of a process, so that each client calls in a process of its own.
func TestNoProxyIsSentPlaintextAndTLSElsewhereGoesThroughIt(t *testing.T) {
	t.Parallel()
	for security, expected := range map[string]string{
		"plaintext": "",
		"tls":       "CONNECT parley.invalid:50051 HTTP/1.1",
	} {
		listener := must(net.Listen("tcp", "127.0.0.1:0"))(t)
		asked := make(chan string, 10)
		go recordProxied(listener, asked)
		child := exec.Command(os.Args[0], "-test.run=^TestCallThroughAProxy$", "-test.v")
		child.Env = append(os.Environ(), "HTTPS_PROXY=http://"+listener.Addr().String(),
			"NO_PROXY=", "no_proxy=", proxiedAddress+"="+security+" parley.invalid:50051")
		said := must(child.CombinedOutput())(t)
		want(t, true, strings.Contains(string(said), "--- PASS: TestCallThroughAProxy"))
		must(0, listener.Close())(t)
		first := ""
		if len(asked) > 0 {
			first = <-asked
		}
		want(t, expected, first)
	}
}

// The child of the test above.
func TestCallThroughAProxy(t *testing.T) {
	security, address, isChild := strings.Cut(os.Getenv(proxiedAddress), " ")
	if !isChild {
		t.Skip("runs as a child of another test")
	}
	var options []parley.Option
	if security == "plaintext" {
		options = append(options, parley.WithPlaintext())
	}
	_, err := aClient(t, address, options...).GetTurn(t.Context(), &parley.GetTurnRequest{RequestId: "r"})
	want(t, true, err != nil)
}

func recordProxied(listener net.Listener, asked chan<- string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		line, _ := bufio.NewReader(conn).ReadString('\n')
		select {
		case asked <- strings.TrimSpace(line):
		default:
		}
		conn.Write([]byte("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"))
		conn.Close()
	}
}
