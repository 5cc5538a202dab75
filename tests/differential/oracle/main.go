// Command oracle answers questions about Dockerfiles and build contexts with Docker's own code:
// one JSON object a line in, one a line out. Its Python side is tests/differential/oracle/__init__.py.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/fsutil"
	fscopy "github.com/tonistiigi/fsutil/copy"
	"github.com/tonistiigi/fsutil/types"
)

type question struct {
	Kind    string                     // parse, plan, expand, ignore or walk
	Text    string                     // a Dockerfile, a word, an ignore file
	Escape  string                     // of expand
	Env     []string                   // of expand: NAME=value
	Paths   []string                   // of ignore: which of them are left out? Of walk: the sources, as FollowPaths
	Context string                     // of walk
	Scratch string                     // of walk: a directory for what it copies
	Copies  []copied                   // of walk: those of the plan
	Args    map[string]string          // of plan: build arguments
	Bases   map[string]json.RawMessage // of plan: reference -> {"config": ...}
}

type node struct {
	Value    string
	Flags    []string
	JSON     bool
	Lines    [2]int
	Rest     []*node
	Heredocs []heredoc
}

type heredoc struct {
	Name, Content string
	Expand, Chomp bool
}

type answer struct {
	Error string
	Nodes []*node
	Word  string
	Out   []bool
	Sent  []string   // of walk: "kind path"
	Taken [][]string // of walk: what each of the Copies makes of it
	Reads []string   // of plan: FollowPaths of the context; empty = the whole, if Local
	Local bool       // of plan: is the context read at all?
	Bases []string   // of plan
	Copy  []copied   // of plan: from the context
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var asked question
		if err := json.Unmarshal(line, &asked); err != nil {
			panic(err)
		}
		var found answer
		if err := found.to(asked); err != nil {
			found = answer{Error: err.Error()}
		}
		if err := out.Encode(found); err != nil {
			return
		}
	}
}

func (a *answer) to(asked question) (err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("panic: %v", problem)
		}
	}()
	switch asked.Kind {
	case "parse":
		return a.parse(asked)
	case "plan":
		return a.plan(asked)
	case "expand":
		return a.expand(asked)
	case "ignore":
		return a.ignore(asked)
	case "walk":
		return a.walk(asked)
	}
	return errors.New("what?")
}

func (a *answer) parse(asked question) error {
	result, err := parser.Parse(strings.NewReader(asked.Text))
	if err != nil {
		return err
	}
	for _, child := range result.AST.Children {
		a.Nodes = append(a.Nodes, chain(child))
	}
	a.Word = string(result.EscapeToken)
	return nil
}

func chain(from *parser.Node) *node {
	made := &node{Value: from.Value, Flags: from.Flags, JSON: from.Attributes["json"], Lines: [2]int{from.StartLine, from.EndLine}}
	for _, one := range from.Heredocs {
		made.Heredocs = append(made.Heredocs, heredoc{one.Name, one.Content, one.Expand, one.Chomp})
	}
	for next := from.Next; next != nil; next = next.Next {
		rest := &node{Value: next.Value, Flags: next.Flags, JSON: next.Attributes["json"]}
		for _, inner := range next.Children { // ONBUILD
			rest.Rest = append(rest.Rest, chain(inner))
		}
		made.Rest = append(made.Rest, rest)
	}
	return made
}

type copied struct {
	Source, Destination, Owner, Mode  string
	Wildcard, Empty, Follow, Contents bool
	Include                           []string
	Exclude                           []string
}

// images resolves each reference to the config that was given for it.
type images map[string]json.RawMessage

func (i images) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	short := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(ref, "docker.io/"), "library/"), ":latest")
	config, found := i[short]
	if !found {
		return "", "", nil, errors.New("no image " + ref)
	}
	return ref, digest.FromBytes(config), config, nil
}

func (a *answer) plan(asked question) error {
	ctx := context.Background()
	platform := ocispecs.Platform{OS: "linux", Architecture: "amd64"}
	options := dockerfile2llb.ConvertOpt{MetaResolver: images(asked.Bases), TargetPlatform: &platform}
	options.BuildArgs, options.Target = asked.Args, asked.Context
	capabilities := pb.Caps.CapSet(pb.Caps.All())
	options.LLBCaps = &capabilities
	options.BuildPlatforms = []ocispecs.Platform{platform}
	made, err := dockerfile2llb.Dockerfile2LLB(ctx, []byte(asked.Text), options)
	if err != nil {
		return err
	}
	definition, err := made.State.Marshal(ctx, llb.Platform(platform))
	if err != nil {
		return err
	}
	sources := map[string]string{}
	ops := []*pb.Op{}
	for _, bytes := range definition.Def {
		op := &pb.Op{}
		if err := op.UnmarshalVT(bytes); err != nil {
			return err
		}
		ops = append(ops, op)
		if source := op.GetSource(); source != nil {
			sources[digest.FromBytes(bytes).String()] = source.Identifier
			a.source(source)
		}
	}
	for _, op := range ops {
		if file := op.GetFile(); file != nil {
			a.file(op, file, sources)
		}
	}
	return nil
}

func (a *answer) source(source *pb.SourceOp) {
	if reference, found := strings.CutPrefix(source.Identifier, "docker-image://"); found {
		a.Bases = append(a.Bases, reference)
	} else if source.Identifier == "local://context" {
		a.Local = true
		if paths := source.Attrs["local.followpaths"]; paths != "" {
			if err := json.Unmarshal([]byte(paths), &a.Reads); err != nil {
				panic(err)
			}
		}
	}
}

func (a *answer) file(op *pb.Op, file *pb.FileOp, sources map[string]string) {
	for _, action := range file.Actions {
		step := action.GetCopy()
		from := int(action.SecondaryInput)
		if step == nil || from < 0 || from >= len(op.Inputs) || sources[op.Inputs[from].Digest] != "local://context" {
			continue
		}
		one := copied{Source: step.Src, Destination: step.Dest, Mode: step.ModeStr}
		one.Wildcard, one.Empty, one.Follow, one.Contents = step.AllowWildcard, step.AllowEmptyWildcard, step.FollowSymlink, step.DirCopyContents
		one.Include, one.Exclude = step.IncludePatterns, step.ExcludePatterns
		if step.ModeStr == "" && step.Mode >= 0 {
			one.Mode = strconv.FormatInt(int64(step.Mode), 8)
		}
		if step.Owner != nil {
			one.Owner = owner(step.Owner.User) + ":" + owner(step.Owner.Group)
		}
		a.Copy = append(a.Copy, one)
	}
}

func owner(of *pb.UserOpt) string {
	if of == nil {
		return ""
	}
	if name := of.GetByName(); name != nil {
		return name.Name
	}
	return strconv.Itoa(int(of.GetByID()))
}

func (a *answer) expand(asked question) error {
	lexer := shell.NewLex([]rune(asked.Escape)[0])
	word, _, err := lexer.ProcessWord(asked.Text, shell.EnvsFromSlice(asked.Env))
	a.Word = word
	return err
}

func (a *answer) ignore(asked question) error {
	patterns, err := ignorefile.ReadAll(strings.NewReader(asked.Text))
	if err != nil {
		return err
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		return err
	}
	for _, path := range asked.Paths {
		out, above := false, patternmatcher.MatchInfo{} // as a walk comes to it, directory by directory
		for depth := 1; depth <= strings.Count(path, "/")+1; depth++ {
			part := strings.Join(strings.SplitN(path, "/", depth+1)[:depth], "/")
			if out, above, err = matcher.MatchesUsingParentResults(part, above); err != nil {
				return err
			}
		}
		a.Out = append(a.Out, out)
	}
	return nil
}

// walk is what the docker command sends of a context whose sources are known, and what the COPYs take of it.
func (a *answer) walk(asked question) error {
	patterns, err := ignorefile.ReadAll(strings.NewReader(asked.Text))
	if err != nil {
		return err
	}
	whole, err := fsutil.NewFS(asked.Context)
	if err != nil {
		return err
	}
	filtered, err := fsutil.NewFilterFS(whole, &fsutil.FilterOpt{ExcludePatterns: patterns, FollowPaths: asked.Paths})
	if err != nil {
		return err
	}
	sent, err := os.MkdirTemp(asked.Scratch, "sent")
	if err != nil {
		return err
	}
	defer os.RemoveAll(sent)
	err = filtered.Walk(context.Background(), "", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		kind, err := transfer(filepath.Join(asked.Context, path), filepath.Join(sent, path), entry)
		a.Sent = append(a.Sent, kind+" "+path)
		return err
	})
	if err != nil {
		return err
	}
	for _, step := range asked.Copies {
		a.Taken = append(a.Taken, taken(step, sent, asked.Scratch))
	}
	return nil
}

func transfer(from, to string, entry fs.DirEntry) (string, error) {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return "", err
	}
	info, err := entry.Info()
	if err != nil {
		return "", err
	}
	mode := fs.FileMode(info.Sys().(*types.Stat).Mode)
	if entry.IsDir() {
		if err := os.MkdirAll(to, 0o755); err != nil {
			return "dir", err
		}
		return "dir", os.Chmod(to, mode)
	}
	if entry.Type()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(from)
		if err != nil {
			return "link", err
		}
		return "link", os.Symlink(target, to)
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return "file", err
	}
	if err := os.WriteFile(to, content, 0o644); err != nil {
		return "file", err
	}
	return "file", os.Chmod(to, mode)
}

// taken is what one COPY makes of the tree that was sent: its result, file by file, or its error.
func taken(step copied, sent, scratch string) []string {
	target, err := os.MkdirTemp(scratch, "taken")
	if err != nil {
		return []string{err.Error()}
	}
	defer os.RemoveAll(target)
	sources := []string{step.Source}
	if step.Wildcard {
		sources, err = fscopy.ResolveWildcards(sent, step.Source, step.Follow)
		if err != nil || (len(sources) == 0 && !step.Empty) {
			return []string{"error: not found"}
		}
	}
	options := func(info *fscopy.CopyInfo) {
		info.IncludePatterns, info.ExcludePatterns = step.Include, step.Exclude
		info.CopyDirContents, info.FollowLinks = step.Contents, step.Follow
	}
	for _, source := range sources {
		if err := fscopy.Copy(context.Background(), sent, source, target, step.Destination, options); err != nil {
			text := strings.ReplaceAll(strings.ReplaceAll(err.Error(), sent, ""), target, "")
			return []string{"error: " + text}
		}
	}
	lines := []string{}
	filepath.WalkDir(target, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		content := ""
		if info.Mode().IsRegular() {
			bytes, _ := os.ReadFile(path)
			content = digest.FromBytes(bytes).Encoded()
		} else if info.Mode()&fs.ModeSymlink != 0 {
			content, _ = os.Readlink(path)
		}
		lines = append(lines, fmt.Sprintf("%s %s %s", info.Mode(), content, strings.TrimPrefix(path, target)))
		return nil
	})
	return lines
}
