package train

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/thriftc/thriftc/internal/atomicfile"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// A checkpoint is a file of these parts: checkpointMagic, the length of the
// header (8 bytes, little endian), the header (JSON), the elements of the
// tensors that it lists (f32, little endian), and the SHA-256 of all before it.
const checkpointMagic = "thriftc checkpoint 1\n"

// maxHeader bounds the length of a header, in bytes.
const maxHeader = 256 << 20

// header is what a checkpoint says besides numbers.
type header struct {
	Identity identity     `json:"identity"`
	Build    string       `json:"build"`
	Position position     `json:"position"`
	Tensors  []tensorSpec `json:"tensors"`
}

// identity says which run a checkpoint belongs to; a run goes on only from
// checkpoints of its own.
type identity struct {
	Name    string `json:"name"`
	Model   string `json:"model"` // fingerprint of the step graph with its initial weights
	Seed    uint64 `json:"seed"`
	Data    string `json:"data"`
	Samples int    `json:"samples"`
	Val     int    `json:"val_samples"`
	Recipe  Recipe `json:"recipe"`
}

// tensorSpec describes one tensor of a checkpoint. Its role is state, or best
// or result: what is exported.
type tensorSpec struct {
	Role  string `json:"role"`
	Name  string `json:"name"`
	Shape []int  `json:"shape"`
}

const (
	roleState  = "state"
	roleBest   = "best"
	roleResult = "result"
)

func (r *run) identity() identity {
	fp := ir.Fingerprint(r.step.graph)
	id := identity{
		Name: r.t.Name, Model: hex.EncodeToString(fp[:]), Seed: r.tr.Seed, Data: r.tr.Data.File(),
		Samples: r.tr.Data.Len(), Recipe: r.recipe,
	}
	if r.tr.Val != nil {
		id.Val = r.tr.Val.Len()
	}
	// How often checkpoints are written and how many are kept may change.
	id.Recipe.Checkpoints, id.Recipe.CheckpointEvery = 0, 0
	return id
}

// differences names what two runs do not have in common.
func (a identity) differences(b identity) []string {
	fields := func(x any) map[string]json.RawMessage {
		data, err := json.Marshal(x)
		out := map[string]json.RawMessage{}
		if err = errors.Join(err, json.Unmarshal(data, &out)); err != nil {
			panic(err) // plain numbers and texts
		}
		return out
	}
	var out []string
	compare := func(p, q map[string]json.RawMessage) {
		for k, v := range p {
			if k != "recipe" && !bytes.Equal(v, q[k]) {
				out = append(out, k)
			}
		}
	}
	compare(fields(a), fields(b))
	compare(fields(a.Recipe), fields(b.Recipe))
	slices.Sort(out)
	return out
}

var checkpointName = regexp.MustCompile(`^(.+)-([0-9]{9})\.ckpt$`)

// sweep removes what a killed process left half written.
func (r *run) sweep() error {
	left, err := filepath.Glob(filepath.Join(r.tr.Dir, "."+r.t.Name+"-*.ckpt.*"))
	for _, f := range left {
		err = errors.Join(err, os.Remove(f))
	}
	return err
}

// checkpoints lists the files of the run's checkpoints, the latest first.
func (r *run) checkpoints() ([]string, error) {
	all, err := checkpointsIn(r.tr.Dir)
	return all[r.t.Name], err
}

// checkpointsIn lists the checkpoints in a folder by the names of their runs, the latest first.
func checkpointsIn(dir string) (map[string][]string, error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for _, f := range slices.Backward(files) { // sorted by name, so by step
		if m := checkpointName.FindStringSubmatch(f.Name()); m != nil {
			out[m[1]] = append(out[m[1]], filepath.Join(dir, f.Name()))
		}
	}
	return out, nil
}

// Started reports whether a folder holds checkpoints of a training that took a step.
func Started(dir string) bool {
	runs, _ := checkpointsIn(dir) // a folder that cannot be read holds nothing to go on from
	for _, files := range runs {
		if !strings.HasSuffix(files[0], "-000000000.ckpt") {
			return true
		}
	}
	return false
}

// Interrupted says in an error which training that did not end has its checkpoints in a folder; nil if none has.
func Interrupted(dir string) error {
	runs, err := checkpointsIn(dir)
	for _, name := range slices.Sorted(maps.Keys(runs)) {
		err = errors.Join(err, unfinished(runs[name]))
	}
	return err
}

// unfinished returns an error if the latest of a run's checkpoints is not that of its end.
func unfinished(files []string) error {
	if len(files) == 0 {
		return nil
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		return nil // nothing to go on from
	}
	h, _, err := readCheckpoint(data)
	if err != nil || h.Position.Done || h.Position.Step == 0 {
		return nil
	}
	return fmt.Errorf("%s holds checkpoints of a training that was interrupted after step %d of %d: go on with --resume, or remove them", filepath.Dir(files[0]), h.Position.Step, h.Position.Steps)
}

// save writes a checkpoint and removes those beyond the number to keep.
func (r *run) save() error {
	if r.tr.Dir == "" {
		return nil
	}
	h := header{Identity: r.id, Build: r.tr.Build, Position: r.position}
	h.Position.Seconds = r.elapsed().Seconds()
	var tensors []*tensor.Tensor
	add := func(role, name string, t *tensor.Tensor) {
		h.Tensors = append(h.Tensors, tensorSpec{role, name, append([]int{}, t.Shape()...)})
		tensors = append(tensors, t)
	}
	for _, name := range r.state.Names() {
		add(roleState, name, r.state.Get(name))
	}
	for _, name := range r.exportedNames() {
		if t := r.best[name]; t != nil {
			add(roleBest, name, t)
		}
	}
	for _, name := range r.resultNames() {
		add(roleResult, name, r.result[name])
	}
	path := filepath.Join(r.tr.Dir, fmt.Sprintf("%s-%09d.ckpt", r.t.Name, r.Step))
	if err := atomicfile.Write(path, func(w io.Writer) error { return writeCheckpoint(w, &h, tensors) }); err != nil {
		return fmt.Errorf("the checkpoint cannot be written: %w", err)
	}
	old, err := r.checkpoints()
	if err != nil {
		return err
	}
	for _, f := range old[min(r.recipe.Checkpoints, len(old)):] {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	return nil
}

// resultNames lists the names in the result in a fixed order.
func (r *run) resultNames() []string {
	var out []string
	for name := range r.result {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func writeCheckpoint(w io.Writer, h *header, tensors []*tensor.Tensor) error {
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	sum := sha256.New()
	all := io.MultiWriter(w, sum)
	head := binary.LittleEndian.AppendUint64([]byte(checkpointMagic), uint64(len(text)))
	if _, err := all.Write(append(head, text...)); err != nil {
		return err
	}
	for _, t := range tensors {
		if err := binary.Write(all, binary.LittleEndian, tensor.Data[float32](t)); err != nil {
			return err
		}
	}
	_, err = w.Write(sum.Sum(nil))
	return err
}

// readCheckpoint reads what writeCheckpoint wrote.
func readCheckpoint(data []byte) (*header, []*tensor.Tensor, error) {
	broken := func(why string) (*header, []*tensor.Tensor, error) {
		return nil, nil, errors.New("the checkpoint is damaged: " + why)
	}
	body := len(data) - sha256.Size
	if !bytes.HasPrefix(data, []byte(checkpointMagic)) || body < len(checkpointMagic)+8 {
		return broken("it does not begin like one, or is too short")
	}
	if sum := sha256.Sum256(data[:body]); !bytes.Equal(sum[:], data[body:]) {
		return broken("its checksum is wrong")
	}
	rest := data[len(checkpointMagic):body]
	n := binary.LittleEndian.Uint64(rest)
	if rest = rest[8:]; n > maxHeader || n > uint64(len(rest)) {
		return broken(fmt.Sprintf("a header of %d bytes", n))
	}
	var h header
	if err := json.Unmarshal(rest[:n], &h); err != nil {
		return broken(err.Error())
	}
	rest = rest[n:]
	var tensors []*tensor.Tensor
	for _, s := range h.Tensors {
		size, err := tensor.NumElems(s.Shape)
		if err != nil || size > len(rest)/4 {
			return broken(fmt.Sprintf("%s has shape %v, of which %d bytes are there", s.Name, s.Shape, len(rest)))
		}
		x := make([]float32, size)
		for i := range x {
			x[i] = math.Float32frombits(binary.LittleEndian.Uint32(rest[4*i:]))
		}
		rest = rest[4*size:]
		tensors = append(tensors, tensor.Of(x, s.Shape...))
	}
	if len(rest) > 0 {
		return broken(fmt.Sprintf("%d bytes are left over", len(rest)))
	}
	return &h, tensors, nil
}

// resume goes on from the latest checkpoint that is whole; found is false when
// there is none at all.
func (r *run) resume() (found bool, err error) {
	files, err := r.checkpoints()
	if err == nil {
		err = r.sweep()
	}
	if err != nil {
		return false, err
	}
	var errs []error
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err == nil {
			err = r.load(data)
		}
		if err == nil {
			for _, e := range errs {
				r.tr.Log.Warn(e.Error())
			}
			r.tr.Log.Info(fmt.Sprintf("going on after step %d of %d (epoch %.2f), from %s", r.Step, r.Steps, r.epochs(r.Step), f))
			return true, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", f, err))
		var other *otherRun
		if errors.As(err, &other) {
			break
		}
	}
	return false, errors.Join(errs...)
}

// otherRun says that a checkpoint is of another run.
type otherRun struct{ differences []string }

func (e *otherRun) Error() string {
	return fmt.Sprintf("the checkpoint is of a run with other settings: %s differ; repeat the command that was interrupted, or give another output folder", strings.Join(e.differences, ", "))
}

// load brings the run to where a checkpoint stands.
func (r *run) load(data []byte) error {
	h, tensors, err := readCheckpoint(data)
	if err != nil {
		return err
	}
	if d := r.id.differences(h.Identity); len(d) > 0 {
		return &otherRun{d}
	}
	if h.Build != r.tr.Build {
		r.tr.Log.Warn(fmt.Sprintf("the checkpoint is of another build of this program (%s; this is %s): the result may not have the bytes of an uninterrupted run", h.Build, r.tr.Build))
	}
	p := h.Position
	if len(p.Scalars) != len(r.t.Scalars) || p.Step < 0 || p.Step > p.Steps {
		return errors.New("the checkpoint is damaged: its position cannot be")
	}
	maps := map[string]map[string]*tensor.Tensor{roleState: {}, roleBest: {}, roleResult: {}}
	for i, s := range h.Tensors {
		if m := maps[s.Role]; m != nil {
			m[s.Name] = tensors[i]
		}
	}
	for _, name := range r.state.Names() {
		if t := maps[roleState][name]; t == nil || !slices.Equal(t.Shape(), r.state.Get(name).Shape()) {
			return fmt.Errorf("the checkpoint is damaged: %s is not in it, or has another shape", name)
		}
	}
	r.restore(maps[roleState])
	r.position = p
	for i, s := range r.t.Scalars {
		s.Value = p.Scalars[i]
	}
	if len(maps[roleBest]) > 0 {
		r.best = maps[roleBest]
	}
	r.result = maps[roleResult]
	return nil
}

// unused refuses a folder that holds checkpoints of an unfinished run of the
// same name, and removes those of a finished one.
func (r *run) unused() error {
	files, err := r.checkpoints()
	if err == nil {
		err = r.sweep()
	}
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return os.MkdirAll(r.tr.Dir, 0o755)
	}
	if err := unfinished(files); err != nil {
		return err
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	return nil
}
