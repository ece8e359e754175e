package ir

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/thriftc/thriftc/ir/tensor"
)

// Print writes g in the text form, from which Parse makes an equal graph. It
// also prints graphs that Verify rejects, as well as that can be done.
func Print(w io.Writer, g *Graph) error {
	p := &printer{w: bufio.NewWriterSize(w, 1<<16)}
	p.graph(g, "")
	p.put("\n")
	return p.w.Flush()
}

// PrintShort is Print without the contents of tensors of more than 64
// elements: for people, Parse does not read it.
func PrintShort(w io.Writer, g *Graph) error {
	p := &printer{w: bufio.NewWriterSize(w, 1<<16), short: true}
	p.graph(g, "")
	p.put("\n")
	return p.w.Flush()
}

// Format returns what Print writes.
func Format(g *Graph) string {
	var b strings.Builder
	Print(&b, g) // a Builder never fails
	return b.String()
}

// Fingerprint is the SHA-256 of g's text form, with the bytes of large tensors as
// they are, hence of everything that g says: structure, attributes, types, tensors and names.
func Fingerprint(g *Graph) [32]byte {
	h := sha256.New()
	p := &printer{w: bufio.NewWriterSize(h, 1<<16), plain: true}
	p.graph(g, "")
	p.w.Flush() // a hash never fails
	return [32]byte(h.Sum(nil))
}

// Changes tells whether a graph is still what it was. It remembers the tensors of
// the graph that it saw last, so that those that stay need not be read again.
type Changes struct {
	print [32]byte
	known map[tensorSize]map[*tensor.Tensor]int // numbers of the tensors; equal ones have the same
	next  int
}

type tensorSize struct {
	elem tensor.Elem
	n    int
}

// Since reports whether g says anything else than the graph of the call before; the
// first call reports true.
func (c *Changes) Since(g *Graph) bool {
	seen := map[tensorSize]map[*tensor.Tensor]int{}
	number := func(t *tensor.Tensor) int {
		size := tensorSize{t.Elem(), t.Len()}
		if seen[size] == nil {
			seen[size] = map[*tensor.Tensor]int{}
		}
		n, found := seen[size][t]
		if !found {
			n, found = c.known[size][t]
		}
		for _, m := range []map[*tensor.Tensor]int{seen[size], c.known[size]} {
			for other, k := range m {
				if !found && tensor.Equal(other, t) {
					n, found = k, true
				}
			}
		}
		if !found {
			n = c.next
			c.next++
		}
		seen[size][t] = n
		return n
	}
	h := sha256.New()
	p := &printer{w: bufio.NewWriterSize(h, 1<<16), plain: true, number: number}
	p.graph(g, "")
	p.w.Flush() // a hash never fails
	now := [32]byte(h.Sum(nil))
	changed := now != c.print
	c.print, c.known = now, seen
	return changed
}

// Limits of the text form that printer and parser share.
const (
	maxListed     = 64       // elements of the longest tensor printed as a list
	maxSplatBytes = 64 << 20 // memory of all tensors in a file that are given by one number
	maxNesting    = 64       // subgraphs within subgraphs
)

type printer struct {
	w     *bufio.Writer
	short bool
	plain bool // large tensors are written as bytes instead of text
	splat int  // bytes of memory of the tensors printed as splat so far

	number func(*tensor.Tensor) int // if set, stands for the contents of large tensors
}

// put writes; a write error stays in the bufio.Writer until Flush.
func (p *printer) put(ss ...string) {
	for _, s := range ss {
		p.w.WriteString(s)
	}
}

func (p *printer) graph(g *Graph, indent string) {
	p.put("graph ", strconv.Quote(g.Name), " {\n")
	in := indent + "  "
	if g.Doc != "" {
		p.put(in, "doc ", strconv.Quote(g.Doc), "\n")
	}
	for _, m := range g.Meta {
		p.put(in, "meta ", strconv.Quote(m.Key), " = ", strconv.Quote(m.Value), "\n")
	}
	for _, v := range g.Inputs {
		p.put(in, "input ")
		p.declare(v, v.Type)
		p.put("\n")
	}
	for _, v := range g.Consts {
		kind := "const "
		if v.Kind == Param {
			kind = "param "
		}
		p.put(in, kind)
		if v.Data == nil {
			p.declare(v, v.Type)
			p.put(" # has no data\n")
			continue
		}
		t := TypeOf(v.Data)
		t.Quant = v.Type.Quant
		p.declare(v, t)
		p.put(" = ")
		p.tensor(v.Data)
		p.put("\n")
	}
	for _, n := range g.Nodes {
		p.put(in)
		p.node(n, in)
		p.put("\n")
	}
	for _, v := range g.Outputs {
		p.put(in, "output ", nameOf(v), "\n")
	}
	for _, u := range g.Updates {
		p.put(in, "update ", nameOf(u.Param), " = ", nameOf(u.Next), "\n")
	}
	p.put(indent, "}")
}

func (p *printer) declare(v *Value, t Type) {
	p.put(nameOf(v))
	if t.Elem != tensor.Invalid {
		p.put(": ", t.String())
	}
	if v.Doc != "" {
		p.put(" doc ", strconv.Quote(v.Doc))
	}
}

func (p *printer) node(n *Node, indent string) {
	for i, v := range n.Out {
		if i > 0 {
			p.put(", ")
		}
		if v == nil {
			p.put("_")
		} else {
			p.declare(v, v.Type)
		}
	}
	p.put(" = ", identOrQuote(n.Op.Name), "(")
	for i, v := range n.In {
		if i > 0 {
			p.put(", ")
		}
		p.put(nameOf(v))
	}
	p.put(")")
	for i, a := range n.Attrs {
		if i == 0 {
			p.put(" {")
		} else {
			p.put(", ")
		}
		p.put(identOrQuote(a.Name), "=")
		p.attr(a.Value, indent)
	}
	if len(n.Attrs) > 0 {
		p.put("}")
	}
	if n.Name != "" {
		p.put(" name ", strconv.Quote(n.Name))
	}
	if n.Doc != "" {
		p.put(" doc ", strconv.Quote(n.Doc))
	}
}

func (p *printer) attr(v any, indent string) {
	switch x := v.(type) {
	case int64:
		p.put(strconv.FormatInt(x, 10))
	case float32:
		p.put(formatFloat(x))
	case string:
		p.put(strconv.Quote(x))
	case []int64:
		p.put(list("ints", x, func(i int64) string { return strconv.FormatInt(i, 10) }))
	case []float32:
		p.put(list("floats", x, formatFloat))
	case []string:
		p.put(list("strings", x, strconv.Quote))
	case *tensor.Tensor:
		p.put("tensor ", TypeOf(x).String(), " ")
		p.tensor(x)
	case *Graph:
		p.graph(x, indent)
	}
}

// list prints the elements of an attribute; an empty list needs its kind said.
func list[T any](kind string, x []T, format func(T) string) string {
	if len(x) == 0 {
		return kind + "[]"
	}
	var b strings.Builder
	for i, v := range x {
		b.WriteByte("[,"[min(i, 1)])
		b.WriteString(format(v))
	}
	b.WriteByte(']')
	return b.String()
}

func (p *printer) tensor(t *tensor.Tensor) {
	e := t.Elem()
	if x, ok := t.Container().([]string); ok {
		p.put("[")
		for i, s := range x {
			if i > 0 {
				p.put(", ")
			}
			p.put(strconv.Quote(s))
		}
		p.put("]")
		return
	}
	if p.short && t.Len() > maxListed {
		p.put("...")
		return
	}
	if p.number != nil && t.Len() > maxListed {
		p.put("#", strconv.Itoa(p.number(t)))
		return
	}
	raw := rawBytes(t)
	size := e.ContainerBytes()
	switch {
	case t.Rank() == 0:
		p.put(formatElem(e, raw))
	case t.Len() > 4 && p.splat+len(raw) <= maxSplatBytes && bytes.Equal(raw[size:], raw[:len(raw)-size]):
		p.splat += len(raw)
		p.put("splat ", formatElem(e, raw[:size]))
	case t.Len() <= maxListed:
		p.put("[")
		for i := 0; i < len(raw); i += size {
			if i > 0 {
				p.put(", ")
			}
			p.put(formatElem(e, raw[i:i+size]))
		}
		p.put("]")
	case p.plain:
		p.w.Write(raw)
	default:
		p.put(`base64 "`)
		enc := base64.NewEncoder(base64.StdEncoding, p.w)
		enc.Write(packBits(e, raw))
		enc.Close()
		p.put(`"`)
	}
}

func nameOf(v *Value) string {
	switch {
	case v == nil:
		return "_"
	case isName(v.Name):
		return "%" + v.Name
	}
	return "%" + strconv.Quote(v.Name)
}

func identOrQuote(s string) string {
	if isIdent(s) {
		return s
	}
	return strconv.Quote(s)
}

// formatFloat is the shortest decimal that reads back as x, never to be taken
// for an integer; NaNs other than the usual one show their bits.
func formatFloat(x float32) string {
	if x != x {
		if b := math.Float32bits(x); b != quietNaN[tensor.F32] {
			return "nan:0x" + strconv.FormatUint(uint64(b), 16)
		}
		return "nan"
	}
	return withPoint(strconv.FormatFloat(float64(x), 'g', -1, 32))
}

func withPoint(s string) string {
	if strings.ContainsAny(s, ".eI") {
		return plainInf(s)
	}
	return s + ".0"
}
