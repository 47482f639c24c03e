/*
 * A disk reads code over code that has run.
 *
 * A multiboot kernel with a driver for the first virtio-blk function on the bus. It calls a function, has
 * the disk read another one over it, waits for the used ring and calls again, ROUNDS times: block n of the
 * disk (4096 bytes) is a function that answers n. It ends by the debug-exit port: 1 if every answer was
 * right, 2 if one was stale, 3 if there is no disk, 4 if the disk failed.
 */
#include <stdint.h>

#define ROUNDS 100
#define SIZE 8

__attribute__((section(".multiboot"), used)) static const uint32_t header[] = {
    0x1badb002, 0, -0x1badb002u,
};

static inline void out8(uint16_t port, uint8_t value) { __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }
static inline void out32(uint16_t port, uint32_t value) { __asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port)); }
static inline uint32_t in32(uint16_t port)
{
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

__attribute__((noreturn)) static void end(uint8_t result)
{
    for (;;)
        out8(0xf4, result);
}

/* PCI configuration mechanism #1, function 0 of a slot on bus 0. */
static uint32_t config(uint32_t slot, uint32_t at)
{
    out32(0xcf8, 0x80000000u | slot << 11 | (at & 0xfc));
    return in32(0xcfc) >> 8 * (at & 3);
}

static void set_config(uint32_t slot, uint32_t at, uint32_t value)
{
    out32(0xcf8, 0x80000000u | slot << 11 | at);
    out32(0xcfc, value);
}

/* virtio 1.2, 4.1.4.3. */
struct common {
    volatile uint32_t device_feature_select, device_feature, driver_feature_select, driver_feature;
    volatile uint16_t config_msix_vector, num_queues;
    volatile uint8_t device_status, config_generation;
    volatile uint16_t queue_select, queue_size, queue_msix_vector, queue_enable, queue_notify_off;
    volatile uint32_t desc_low, desc_high, driver_low, driver_high, device_low, device_high;
};

struct descriptor { uint64_t addr; uint32_t len; uint16_t flags, next; };
struct available { uint16_t flags, idx, ring[SIZE]; };
struct used { uint16_t flags, idx; struct { uint32_t id, len; } ring[SIZE]; };

static struct descriptor descriptors[SIZE] __attribute__((aligned(4096)));
static volatile struct available available __attribute__((aligned(4096)));
static volatile struct used used __attribute__((aligned(4096)));
static struct { uint32_t type, reserved; uint64_t sector; } request;
static volatile uint8_t status;
static uint8_t code[4096] __attribute__((aligned(4096)));

static uint32_t find_disk(void)
{
    for (uint32_t slot = 0; slot < 32; slot++)
        if (config(slot, 0) == 0x10421af4)
            return slot;
    end(3);
}

/* Address of the structure of this type, by the function's capabilities. */
static uint32_t structure(uint32_t slot, uint8_t type)
{
    for (uint8_t at = config(slot, 0x34); at; at = config(slot, at + 1))
        if ((uint8_t)config(slot, at) == 9 && (uint8_t)config(slot, at + 3) == type)
            return (config(slot, 0x10 + 4 * (uint8_t)config(slot, at + 4)) & ~0xfu) + config(slot, at + 8);
    end(3);
}

static volatile uint32_t *start_disk(void)
{
    uint32_t slot = find_disk();
    set_config(slot, 4, 6);
    struct common *common = (struct common *)structure(slot, 1);
    common->device_status = 0;
    while (common->device_status)
        ;
    common->device_status = 3;
    common->driver_feature_select = 0;
    common->driver_feature = 0;
    common->driver_feature_select = 1;
    common->driver_feature = 1;
    common->device_status = 11;
    if (!(common->device_status & 8))
        end(3);
    common->queue_select = 0;
    common->queue_size = SIZE;
    common->desc_low = (uint32_t)descriptors;
    common->driver_low = (uint32_t)&available;
    common->device_low = (uint32_t)&used;
    common->desc_high = common->driver_high = common->device_high = 0;
    common->queue_enable = 1;
    common->device_status = 15;
    return (volatile uint32_t *)structure(slot, 2);
}

static void read_block(volatile uint32_t *notify, uint32_t block)
{
    request.type = 0;
    request.sector = 8 * block;
    status = 0xff;
    descriptors[0] = (struct descriptor){ (uint32_t)&request, 16, 1, 1 };
    descriptors[1] = (struct descriptor){ (uint32_t)code, sizeof code, 3, 2 };
    descriptors[2] = (struct descriptor){ (uint32_t)&status, 1, 2, 0 };
    available.flags = 1;
    available.ring[available.idx % SIZE] = 0;
    __asm__ volatile("" ::: "memory");
    uint16_t next = available.idx + 1;
    available.idx = next;
    __asm__ volatile("mfence" ::: "memory");
    *notify = 0;
    while (used.idx != next)
        __asm__ volatile("pause" ::: "memory");
    if (status != 0)
        end(4);
}

__attribute__((used)) static void run(void)
{
    volatile uint32_t *notify = start_disk();
    uint32_t (*function)(void) = (uint32_t (*)(void))code;
    for (uint32_t block = 0; block < ROUNDS; block++) {
        read_block(notify, block);
        for (int again = 0; again < 300; again++)
            if (function() != block)
                end(2);
    }
    end(1);
}

__asm__(".section .text\n.globl start\nstart: mov $0x90000, %esp\ncall run\n");
