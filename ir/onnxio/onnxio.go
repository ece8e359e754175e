// Package onnxio reads and writes ONNX files. It is the only package that
// knows the protobuf form of a model: reading gives an ir.Graph in today's
// operator forms, writing turns a graph into the forms of a chosen opset.
//
// Files are not trusted. Sizes are checked before anything is allocated,
// external data stays inside the model's folder, and every reason for which a
// model cannot be read is reported at once.
package onnxio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/thriftc/thriftc/internal/onnxpb"
	"github.com/thriftc/thriftc/ir"
)

// The versions that can be read; see the ONNX versioning document for which
// release brought which.
const (
	MinIR, MaxIR       = 3, 14
	MinOpset, MaxOpset = 6, 28
)

// maxFile is the largest model file: the limit of the protobuf format.
const maxFile = 2<<30 - 1

// Problem is one reason why a model cannot be read or written, or a remark
// about how it was read.
type Problem struct {
	Node   string `json:"node,omitempty"` // label of the node or value; "" for the whole model
	Reason string `json:"reason"`
}

func (p Problem) String() string {
	if p.Node == "" {
		return p.Reason
	}
	return p.Node + ": " + p.Reason
}

// Unsupported is the error for models that may well be valid but use what
// thriftc cannot express. It lists every such place.
type Unsupported struct{ Problems []Problem }

func (u *Unsupported) Error() string {
	var b strings.Builder
	b.WriteString("not supported:")
	for _, p := range u.Problems {
		if len(u.Problems) > 1 {
			b.WriteString("\n ")
		}
		b.WriteString(" " + p.String())
	}
	return b.String()
}

// Reader reads models and tensors.
type Reader struct {
	Ops  *ir.Registry  // the operators that models may use
	Note func(Problem) // if set, is told what was ignored or repaired
	// Strict refuses what the checker of onnx or ONNX Runtime would refuse: names that stand
	// twice, and nodes that their operator does not have in the model's opset.
	Strict bool

	// Bytes is the size of the model that was read last, with the external
	// files that its tensors are in, and External lists those, by their paths.
	Bytes    int64
	External []string
}

// Read reads a model file; external data is looked for beside it. The error is
// an *Unsupported when the model uses something thriftc cannot express; any
// other error means that the file is broken or cannot be read.
func Read(path string, ops *ir.Registry) (*ir.Graph, error) {
	return (&Reader{Ops: ops}).Read(path)
}

// Decode is Read for a model in memory. External data is looked for in dir;
// when dir is empty a model with external data is an error.
func Decode(data []byte, dir string, ops *ir.Registry) (*ir.Graph, error) {
	return (&Reader{Ops: ops}).Decode(data, dir)
}

// Read is the function Read with r's settings.
func (r *Reader) Read(path string) (*ir.Graph, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	g, err := r.Decode(data, filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return g, nil
}

// Decode is the function Decode with r's settings.
func (r *Reader) Decode(data []byte, dir string) (*ir.Graph, error) {
	var m onnxpb.ModelProto
	if err := unmarshal(data, &m); err != nil {
		return nil, err
	}
	if r.Strict {
		if problems := verify(&m); len(problems) > 0 {
			return nil, &Unsupported{problems}
		}
	}
	files := &externalFiles{dir: dir}
	defer files.close()
	g, err := readModel(r, &m, files)
	r.Bytes, r.External = int64(len(data))+files.size, files.paths()
	return g, err
}

func readFile(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	if st.Size() > maxFile {
		return nil, fmt.Errorf("%s: %d bytes is more than the format's limit of 2 GB; larger models keep their weights in external data", path, st.Size())
	}
	return os.ReadFile(path)
}

// unmarshal parses a message. Each level of subgraphs takes three levels of
// messages, so the limit allows graphs nested a hundred deep.
func unmarshal(data []byte, m proto.Message) error {
	if len(data) == 0 {
		return errors.New("the file is empty")
	}
	if err := (proto.UnmarshalOptions{RecursionLimit: 300}).Unmarshal(data, m); err != nil {
		return fmt.Errorf("not an ONNX file, or cut short: %v", strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\u00a0", " "), "proto: "))
	}
	return nil
}
