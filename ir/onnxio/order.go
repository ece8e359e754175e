package onnxio

import (
	"container/heap"
	"fmt"
	"strings"

	"github.com/thriftc/thriftc/internal/onnxpb"
)

type intHeap []int

func (h intHeap) Len() int           { return len(h) }
func (h intHeap) Less(i, j int) bool { return h[i] < h[j] }
func (h intHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *intHeap) Push(x any)        { *h = append(*h, x.(int)) }
func (h *intHeap) Pop() any {
	x := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return x
}

// ordered returns the nodes with definitions before uses, in the file's order
// where that is possible. The format asks for that order; not every exporter
// keeps it.
func ordered(nodes []*onnxpb.NodeProto) ([]*onnxpb.NodeProto, error) {
	producer := map[string]int{}
	for i, n := range nodes {
		for _, o := range n.Output {
			if o != "" {
				producer[o] = i
			}
		}
	}
	waits := make([]int, len(nodes)) // producers that are still to come
	feeds := make([][]int, len(nodes))
	for i, n := range nodes {
		for name := range usedNames(n) {
			if p, ok := producer[name]; ok {
				waits[i]++
				feeds[p] = append(feeds[p], i)
			}
		}
	}
	ready := &intHeap{}
	for i, w := range waits {
		if w == 0 {
			*ready = append(*ready, i)
		}
	}
	heap.Init(ready)
	out := make([]*onnxpb.NodeProto, 0, len(nodes))
	for ready.Len() > 0 {
		i := heap.Pop(ready).(int)
		out = append(out, nodes[i])
		for _, f := range feeds[i] {
			if waits[f]--; waits[f] == 0 {
				heap.Push(ready, f)
			}
		}
	}
	if len(out) == len(nodes) {
		return out, nil
	}
	return nil, fmt.Errorf("nodes in a cycle: %s", strings.Join(cycle(nodes, producer, waits), ", "))
}

// cycle follows inputs backwards among the nodes that could not be ordered,
// each of which waits for another, until a node comes up again.
func cycle(nodes []*onnxpb.NodeProto, producer map[string]int, waits []int) []string {
	at := 0
	for waits[at] == 0 {
		at++
	}
	seen := map[int]int{}
	var path []int
	for {
		if from, ok := seen[at]; ok {
			path = path[from:]
			break
		}
		seen[at] = len(path)
		path = append(path, at)
		next := -1
		for name := range usedNames(nodes[at]) {
			if p, ok := producer[name]; ok && waits[p] > 0 && (next < 0 || p < next) {
				next = p
			}
		}
		at = next
	}
	var labels []string
	for i := len(path) - 1; i >= 0 && len(labels) < 10; i-- {
		labels = append(labels, label(nodes[path[i]]))
	}
	return labels
}

// usedNames returns the names of an enclosing graph that a node may use: its
// inputs, and what its subgraphs use but do not define.
func usedNames(n *onnxpb.NodeProto) map[string]bool {
	used := map[string]bool{}
	for _, in := range n.Input {
		if in != "" {
			used[in] = true
		}
	}
	for _, a := range n.Attribute {
		if a.G != nil {
			for name := range freeNames(a.G) {
				used[name] = true
			}
		}
	}
	return used
}

func freeNames(g *onnxpb.GraphProto) map[string]bool {
	free := map[string]bool{}
	for _, n := range g.Node {
		for name := range usedNames(n) {
			free[name] = true
		}
	}
	for _, o := range g.Output {
		free[o.GetName()] = true
	}
	for _, v := range g.Input {
		delete(free, v.GetName())
	}
	for _, t := range g.Initializer {
		delete(free, t.GetName())
	}
	for _, t := range g.SparseInitializer {
		delete(free, t.GetValues().GetName())
	}
	for _, n := range g.Node {
		for _, o := range n.Output {
			delete(free, o)
		}
	}
	return free
}

func label(n *onnxpb.NodeProto) string {
	if n.GetName() != "" {
		return n.GetName()
	}
	for _, o := range n.Output {
		if o != "" {
			return "%" + o
		}
	}
	return n.GetOpType()
}
