package parley_test

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	parley "parley.dev/go"
)

const (
	command  = "../../.venv/bin/parley-server"
	secret   = "a-secret-of-the-tests-of-32-bytes-and-more"
	slowness = 3 * time.Second // how long the agent of slow thinks
)

// fast answers at once, slow thinks before it answers.
var fast, slow *serverProcess

func TestMain(m *testing.M) {
	os.Exit(withServers(m.Run))
}

func withServers(run func() int) int {
	started := make(chan error)
	for _, each := range []struct {
		server **serverProcess
		agent  string
	}{{&fast, "echo"}, {&slow, fmt.Sprintf("echo:%v", slowness.Seconds())}} {
		folder, err := os.MkdirTemp("", "parley-go-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(folder)
		*each.server = &serverProcess{agent: each.agent, folder: folder, address: "127.0.0.1:0"}
		defer (*each.server).stop(syscall.SIGTERM)
		go func() { started <- (*each.server).start() }()
	}
	defer func() {
		if server := toolUsers.server; server != nil {
			server.stop(syscall.SIGTERM)
			os.RemoveAll(server.folder)
		}
	}()
	if err := errors.Join(<-started, <-started); err != nil {
		fmt.Fprintln(os.Stderr, "the tests need a server, which `make setup` installs:", err)
		return 1
	}
	os.Setenv("PARLEY_ADDRESS", fast.address) // for the examples
	os.Setenv("PARLEY_TOKEN", tokenOf("ada", nil))
	return run()
}

var toolUsers struct {
	sync.Mutex
	server *serverProcess
}

// aToolUser returns the address of a server whose agent plays the scripts of the conformance scenarios. It starts with
// the first test that needs it.
func aToolUser(t *testing.T) string {
	t.Helper()
	toolUsers.Lock()
	defer toolUsers.Unlock()
	if toolUsers.server == nil {
		server := &serverProcess{agent: "python:scripted_agent:agent", address: "127.0.0.1:0"}
		server.folder = must(os.MkdirTemp("", "parley-go-"))(t)
		want(t, nil, server.start())
		toolUsers.server = server
	}
	return toolUsers.server.address
}

// serverProcess is `parley-server serve` on a port of its own, with a Postgres of its own.
type serverProcess struct {
	agent   string
	folder  string
	address string
	process *exec.Cmd
}

var welcome = regexp.MustCompile(`Parley serves on (\S+:\d+)`)

// start returns when the server serves. At another start it has the same port and the same data.
func (s *serverProcess) start() error {
	path, err := filepath.Abs(command)
	if err != nil {
		return err
	}
	scripts, err := filepath.Abs("../conformance")
	if err != nil {
		return err
	}
	process := exec.Command(path, "serve")
	process.Env = append(withoutParley(os.Environ()),
		"PARLEY_LISTEN="+s.address,
		"PARLEY_AGENT="+s.agent,
		"PYTHONPATH="+scripts,
		"PARLEY_DATA_DIR="+s.folder,
		"PARLEY_LEASE_S=2", // a killed worker's turn can be taken over soon
		"PARLEY_AUTH_HS256_SECRET="+secret,
		"PARLEY_AUTH_ISSUER=tests",
		"PARLEY_AUTH_AUDIENCE=parley",
	)
	stderr, err := process.StderrPipe()
	if err != nil {
		return err
	}
	if err := process.Start(); err != nil {
		return err
	}
	s.process = process
	lines := bufio.NewScanner(stderr)
	said := []string{}
	for lines.Scan() {
		said = append(said, lines.Text())
		if found := welcome.FindStringSubmatch(lines.Text()); found != nil {
			s.address = found[1]
			go func() {
				for lines.Scan() { // or it could not write any more
				}
			}()
			return nil
		}
	}
	return fmt.Errorf("the server did not start:\n%s", strings.Join(said, "\n"))
}

// stop sends a signal and waits for the end.
func (s *serverProcess) stop(signal syscall.Signal) {
	if s.process == nil {
		return
	}
	_ = s.process.Process.Signal(signal) // it may have ended
	_ = s.process.Wait()                 // its exit code is no matter here
	s.process = nil
}

func withoutParley(environment []string) []string {
	kept := []string{}
	for _, each := range environment {
		if !strings.HasPrefix(each, "PARLEY_") {
			kept = append(kept, each)
		}
	}
	return kept
}

// tokenOf mints a token as an issuer would.
func tokenOf(user string, claims map[string]any) string {
	all := map[string]any{
		"sub": user, "iss": "tests", "aud": "parley", "exp": time.Now().Add(time.Hour).Unix(),
	}
	for name, value := range claims {
		all[name] = value
	}
	signed := encoded(map[string]any{"alg": "HS256", "typ": "JWT"}) + "." + encoded(all)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func encoded(part map[string]any) string {
	text, err := json.Marshal(part)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// aClient returns a client of a user whom nobody else is.
func aClient(t *testing.T, address string, options ...parley.Option) *parley.Client {
	t.Helper()
	all := append([]parley.Option{parley.WithToken(tokenOf(uuid.NewString(), nil))}, options...)
	client, err := parley.New(address, all...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}
