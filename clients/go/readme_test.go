package parley_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// goBlocks returns the README's blocks of Go.
func goBlocks(t *testing.T) []string {
	t.Helper()
	readme := must(os.ReadFile("README.md"))(t)
	blocks := []string{}
	for _, found := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(readme, -1) {
		blocks = append(blocks, string(found[1]))
	}
	return blocks
}

func TestTheReadmesQuickStartRuns(t *testing.T) {
	t.Parallel()
	const address = "parley.DefaultAddress"
	program := goBlocks(t)[0]
	want(t, 1, strings.Count(program, address))
	path := filepath.Join(t.TempDir(), "main.go")
	program = strings.Replace(program, address, strconv.Quote(fast.address), 1)
	want(t, nil, os.WriteFile(path, []byte(program), 0o600))

	run := exec.CommandContext(t.Context(), "go", "run", path)
	run.Env = append(os.Environ(), "PARLEY_TOKEN="+tokenOf("ada", nil))
	output, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	want(t, "What is my name?", string(output)) // the agent says what it is told
}

// surroundings are what the README's other blocks stand in, in its order.
var surroundings = []string{
	"func _(ctx context.Context, client *parley.Client, id string, answer *parley.ChatResponse) error {%\nreturn nil\n}",
	"func _(ctx context.Context, client *parley.Client, jobID string, prices map[string]int, ask func(...string) bool) " +
		"(*parley.Answer, error) {%\nreturn answer, err\n}",
	"func _(ctx context.Context, client *parley.Client, id string, seen int64) error {%\nreturn nil\n}",
	"func _(ctx context.Context, client *parley.Client, id, jobID, cursor string) error {%\nreturn nil\n}",
	"func _(ctx context.Context, client *parley.Client, yesterday time.Time) error {%\nreturn err\n}",
	"func _(ctx context.Context, client *parley.Client, id, cursor string) error {%\nreturn nil\n}",
	"func _(ctx context.Context, client *parley.Client, jobID string) error {%\nreturn nil\n}",
	"func _(ctx context.Context, client *parley.Client, request *parley.ChatRequest) *parley.Answer {%\nreturn answer\n}",
	"func _() (*parley.Client, error) {%\nreturn client, err\n}",
}

func TestTheReadmesOtherBlocksCompile(t *testing.T) {
	t.Parallel()
	source := "package main\n\nimport (\n"
	for _, path := range []string{
		"context", "errors", "fmt", "log/slog", "time",
		"google.golang.org/protobuf/types/known/fieldmaskpb", "google.golang.org/protobuf/types/known/timestamppb",
	} {
		source += strconv.Quote(path) + "\n"
	}
	source += "parley \"parley.dev/go\"\n)\n\nfunc main() {}\n"
	blocks := goBlocks(t)[1:]
	want(t, len(surroundings), len(blocks))
	for n, block := range blocks {
		source += strings.Replace(surroundings[n], "%", "\n"+block, 1) + "\n"
	}
	path := filepath.Join(t.TempDir(), "main.go")
	want(t, nil, os.WriteFile(path, []byte(source), 0o600))
	output, err := exec.CommandContext(t.Context(), "go", "vet", path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
}
