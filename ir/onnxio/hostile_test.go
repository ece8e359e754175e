package onnxio

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
)

// seeds are small models that touch every part of the reader.
func seeds(t testing.TB) [][]byte {
	branch := func(name, op string) string {
		return `attribute { name: "` + name + `" type: GRAPH g { ` + node(op, "x", "r") + ` output { name: "r" } } } `
	}
	function := ` opset_import { domain: "my" version: 1 } functions { domain: "my" name: "F" input: "i" output: "o" attribute: "a" opset_import { version: 17 } ` +
		node("LeakyRelu", "i", "t", `attribute { name: "alpha" type: FLOAT ref_attr_name: "a" }`) + node("Add", "t i", "o") + `}`
	texts := []string{
		graph(x + weight("w", 1, 2) + node("Mul", "x w", "a", `name: "mul"`) + node("Relu", "a", "y") + y),
		graph(x + `input { name: "c" type { tensor_type { elem_type: 9 shape { } } } }` + node("If", "c", "y", branch("then_branch", "Relu"), branch("else_branch", "Neg")) + y),
		graph(x+node("F", "x", "s", `domain: "my" name: "call" attribute { name: "a" type: FLOAT f: 0.5 }`)+node("F", "s", "y", `domain: "my"`)+y) + function + ` metadata_props { key: "k" value: "v" }`,
		graph(x + node("Constant", "", "shape", `attribute { name: "value_ints" type: INTS ints: 2 ints: -1 }`) + node("Reshape", "x shape", "r") + node("Transpose", "r", "y", `attribute { name: "perm" type: INTS ints: 1 ints: 0 }`) + y),
		graph(x + `initializer { name: "q" dims: 2 data_type: 22 raw_data: "\x71" } sparse_initializer { dims: 2 values { name: "w" dims: 1 data_type: 1 float_data: 3 } indices { dims: 1 data_type: 7 int64_data: 1 } } initializer { name: "s" data_type: 1 float_data: 0.5 }` +
			node("DequantizeLinear", "q s", "d") + node("Add", "x d", "e") + node("Mul", "e w", "y") + y + `value_info { name: "e" type { tensor_type { elem_type: 1 } } } quantization_annotation { tensor_name: "q" quant_parameter_tensor_names { key: "finn_datatype" value: "INT3" } }`),
		graph(`input { name: "x" type { tensor_type { elem_type: 1 shape { dim { dim_value: 1 } dim { dim_value: 1 } dim { dim_value: 4 } dim { dim_value: 4 } } } } } initializer { name: "w" dims: 1 dims: 1 dims: 3 dims: 3 data_type: 1 float_data: [1, 2, 3, 4, 5, 6, 7, 8, 9] }` +
			node("Conv", "x w", "a", `attribute { name: "pads" type: INTS ints: [1, 1, 1, 1] }`) + node("MaxPool", "a", "b", `attribute { name: "kernel_shape" type: INTS ints: [2, 2] }`) + node("Flatten", "b", "y") + y),
	}
	var out [][]byte
	for _, s := range texts {
		out = append(out, encodeText(t, s))
	}
	return out
}

// check reads data, which may be anything. A model that is read must be sound.
func check(t *testing.T, data []byte) bool {
	g, err := Decode(data, "", ops.Table())
	if err != nil {
		if strings.Contains(err.Error(), "runtime error") {
			t.Fatalf("%v", err)
		}
		return false
	}
	if err := ir.Verify(g); err != nil {
		t.Fatalf("read, but not sound: %v", err)
	}
	return true
}

func TestSeedsAreRead(t *testing.T) {
	for i, s := range seeds(t) {
		if _, err := Decode(s, "", ops.Table()); err != nil {
			t.Errorf("seed %d: %v", i, err)
		}
	}
}

func TestTruncated(t *testing.T) {
	for _, s := range seeds(t) {
		for p := range 100 {
			check(t, s[:len(s)*p/100])
		}
	}
}

func TestMutated(t *testing.T) {
	const perSeed = 5000
	rng := rand.New(rand.NewPCG(1, 2))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	sound := 0
	for _, s := range seeds(t) {
		for range perSeed {
			m := append([]byte{}, s...)
			for range 1 + rng.IntN(4) {
				switch i := rng.IntN(len(m)); rng.IntN(5) {
				case 0:
					m[i] ^= 1 << rng.IntN(8)
				case 1:
					m[i] = byte(rng.Uint32())
				case 2:
					m[i] = 0xff
				case 3: // repeat a stretch
					j := min(len(m), i+1+rng.IntN(40))
					m = append(m[:j:j], m[i:]...)
				case 4: // drop a stretch
					j := min(len(m), i+1+rng.IntN(8))
					m = append(m[:i:i], m[j:]...)
				}
				if len(m) == 0 {
					break
				}
			}
			if check(t, m) {
				sound++
			}
		}
	}
	runtime.ReadMemStats(&after)
	t.Logf("%d mutations, %d of them sound, %v, %d bytes allocated", perSeed*len(seeds(t)), sound, time.Since(start), after.TotalAlloc-before.TotalAlloc)
	if sound == 0 {
		t.Error("no mutation was read: the test does not reach the reader")
	}
	if mean := (after.TotalAlloc - before.TotalAlloc) / uint64(perSeed*len(seeds(t))); mean > 2<<20 {
		t.Errorf("%d bytes were allocated for a mutation of a file of less than a kilobyte, on average", mean)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) { check(t, data) })
}

func FuzzDecodeTensor(f *testing.F) {
	f.Add([]byte("\x08\x02\x10\x01\x4a\x08abcdefgh"))
	f.Add([]byte("\x08\x03\x10\x16\x2a\x02\x07\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if x, _, err := DecodeTensor(data); err == nil && x.Len()*x.Elem().Bits()/8 > len(data) {
			t.Fatalf("%v%v was read from %d bytes", x.Elem(), x.Shape(), len(data))
		}
	})
}

// TestFewInputs: every operator, at old and new opsets, says in words which inputs it lacks.
func TestFewInputs(t *testing.T) {
	image := `input { name: "x" type { tensor_type { elem_type: 1 shape { dim { dim_value: 1 } dim { dim_value: 2 } dim { dim_value: 4 } dim { dim_value: 4 } } } } } `
	for _, op := range ops.Table().Ops() {
		domain := fmt.Sprintf("domain: %q", op.Domain())
		for _, opset := range []int{MinOpset, 9, 12, 17, MaxOpset} {
			for count := range len(op.Inputs()) + 1 {
				for missing := -1; missing < count; missing++ {
					in := slices.Repeat([]string{"x"}, count)
					if missing >= 0 {
						in[missing] = "_"
					}
					text := fmt.Sprintf(`ir_version: 8 opset_import { version: %d } opset_import { %s version: 1 } graph { name: "g" `, opset, domain) +
						image + node(op.Type(), strings.Join(in, " "), "y", `name: "N"`, domain) + y + "}"
					if op.Domain() == "" {
						text = strings.Replace(text, `opset_import { domain: "" version: 1 }`, "", 1)
					}
					_, err := Decode(encodeText(t, text), "", ops.Table())
					if err == nil {
						continue
					}
					for _, word := range []string{"runtime error", "inference failed", "malformed"} {
						if strings.Contains(err.Error(), word) {
							t.Errorf("%s at opset %d with inputs %v: %v", op.Name, opset, in, err)
						}
					}
				}
			}
		}
	}
}
